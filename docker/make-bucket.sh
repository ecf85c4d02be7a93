#!/bin/sh
# Makes the bucket unless it is there. The compose files run it once their server is healthy.
# Takes S3_ENDPOINT_URL and what docker/.env says about S3.
set -eu

request() {
    # Not every server takes an empty hash of the body, which older versions of curl sign.
    curl --silent --show-error --fail --output /dev/null \
        --header "x-amz-content-sha256: UNSIGNED-PAYLOAD" \
        --aws-sigv4 "aws:amz:$S3_REGION:s3" --user "$S3_ACCESS_KEY_ID:$S3_SECRET_ACCESS_KEY" \
        "$@" "$S3_ENDPOINT_URL/$S3_BUCKET"
}

request --head 2>/dev/null || request --request PUT
echo "bucket $S3_BUCKET is there"
