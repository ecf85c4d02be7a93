#!/bin/bash
# Runs Ceph with an S3 gateway in the foreground until it is told to stop: in compose.ceph.yaml as in the tests.
# Takes S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, CEPH_RGW_ENDPOINT (address:port) and, where several may run on one
# machine, CEPH_MON_PORT and CEPH_DATA, a folder for keys and logs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=${CEPH_DATA:-$(mktemp -d /tmp/ceph-XXXXXX)}
mon_port=${CEPH_MON_PORT:-3300}
fsid=$(cat /proc/sys/kernel/random/uuid)
osd_uuid=$(cat /proc/sys/kernel/random/uuid)
keyring=$data/keyring
daemons=()
unset CEPH_ARGS # options for another cluster, perhaps

stop() {
    trap - EXIT TERM INT
    kill -KILL "${daemons[@]}" 2>/dev/null || true # the data are in memory: there is nothing to save
    wait || true
}
trap stop EXIT
trap 'exit 0' TERM INT

start() {
    "$@" -f &
    daemons+=("$!")
}

mkdir -p "$data/mon" "$data/osd" "$data/run"
export CEPH_CONF=$data/ceph.conf
cp "$here/ceph.conf" "$CEPH_CONF"
cat >>"$CEPH_CONF" <<END
fsid = $fsid
mon host = [v2:127.0.0.1:$mon_port/0]
keyring = $keyring
mon data = $data/mon
osd data = $data/osd
run dir = $data/run
admin socket =
log file = $data/\$name.log
mon cluster log file = $data/cluster.log
crash dir = $data/run
END

add_key() { # name, then pairs of --cap
    ceph-authtool "$keyring" --gen-key --name "$@" >/dev/null
}
touch "$keyring"
add_key mon. --cap mon 'allow *'
add_key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
add_key client.rgw.a --cap mon 'allow rw' --cap osd 'allow rwx'
add_key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'

monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port/0]" "$data/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$data/monmap" --keyring "$keyring"
start ceph-mon -i a
ceph osd new "$osd_uuid" 0 >/dev/null
ceph-osd --mkfs -i 0 --osd-uuid "$osd_uuid"
start ceph-osd -i 0

radosgw-admin user create --uid bucketlog --display-name bucketlog \
    --access-key "$S3_ACCESS_KEY_ID" --secret-key "$S3_SECRET_ACCESS_KEY" >/dev/null
# Without tcp_nodelay all but puts wait 40 ms for the acknowledgement of their answer's first part.
start radosgw -n client.rgw.a --rgw-frontends "beast endpoint=$CEPH_RGW_ENDPOINT tcp_nodelay=1"

wait -n "${daemons[@]}" # until one of them ends by itself
echo "a daemon of Ceph ended; its log is in $data" >&2
exit 1
