"""The bad network of the tests does what it says, so that what holds under it means something."""

import http.client
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.servers import proxy as net
from tests.servers.proxy import Fault, Kind

BODY = bytes(range(256)) * 64
ANSWER = b"stored: " + BODY


class Handler(BaseHTTPRequestHandler):
    """Keeps what it was sent, and answers it with as much."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.connection.settimeout(10)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return  # cut in the request
        self.server.bodies.append(body)
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (b"stored: ", body, b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 8))
        self.end_headers()
        self.wfile.write(b"stored: " + body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.bodies = []
    made.handle_error = lambda *_: None  # connections are cut here
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def network(server):
    with net.Proxy(f"http://127.0.0.1:{server.server_port}") as network:
        yield network
    assert network.connections == 0
    assert not [one.name for one in threading.enumerate() if one.name.startswith(net.THREADS_PREFIX)]


@pytest.fixture
def client(network):
    made = http.client.HTTPConnection(network.endpoint_url.removeprefix("http://"), timeout=10)
    yield made
    made.close()


def put(client, path="/", **headers):
    client.request("PUT", path, BODY, headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def meet(network, kind, **more):
    network.plan = lambda number, method: Fault(kind, **more)


def test_requests_and_answers_are_passed_on_as_they_are(network, server, client):
    assert put(client) == put(client, "/chunked") == put(client, Expect="100-continue") == (200, ANSWER)

    assert server.bodies == [BODY] * 3
    assert network.counts == {"passed on": 3}
    assert network.connections == 1


def test_delayed_request_is_answered_later(network, server, client):
    meet(network, Kind.DELAYED, seconds=0.2)
    begun = time.monotonic()

    assert put(client) == (200, ANSWER)

    assert time.monotonic() - begun >= 0.2


@pytest.mark.parametrize(
    ("kind", "acted"), [(Kind.CUT_BEFORE, False), (Kind.CUT_IN_REQUEST, False), (Kind.CUT_AFTER, True)]
)
def test_cut_connection_brings_no_answer_whether_the_server_acted_or_not(network, server, client, kind, acted):
    meet(network, kind)

    with pytest.raises(ConnectionError):
        put(client)

    assert server.bodies == [BODY] * acted


def test_connection_cut_in_the_answer_brings_half_of_it(network, server, client):
    meet(network, Kind.CUT_IN_ANSWER)

    with pytest.raises(http.client.IncompleteRead) as caught:
        put(client)

    assert ANSWER.startswith(caught.value.partial)
    assert server.bodies == [BODY]


def test_late_request_reaches_the_server_when_its_client_has_given_up(network, server, client):
    meet(network, Kind.LATE, seconds=60)
    with pytest.raises(ConnectionError):
        put(client)
    assert server.bodies == []

    network.settle()

    assert server.bodies == [BODY]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "acted"), [(Kind.SILENT_BEFORE, False), (Kind.SILENT_AFTER, True)])
def test_silence_lasts_until_the_client_has_had_enough(network, server, client, kind, acted):
    meet(network, kind)
    client.timeout = 0.3

    with pytest.raises(TimeoutError):
        put(client)

    assert server.bodies == [BODY] * acted
    assert network.connections == 1
    client.close()
    deadline = time.monotonic() + 10
    while network.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert network.connections == 0


@pytest.mark.parametrize(("kind", "acted"), [(Kind.ANSWERED_BEFORE, False), (Kind.ANSWERED_AFTER, True)])
@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (409, "ConditionalRequestConflict")]
)
def test_answer_is_not_the_servers_whether_it_acted_or_not(network, server, client, kind, acted, status, code):
    meet(network, kind, status=status, code=code)

    said, body = put(client)

    assert said == status
    assert f"<Code>{code}</Code>".encode() in body
    assert server.bodies == [BODY] * acted
    network.plan = net.good
    assert put(client) == (200, ANSWER)  # on the same connection
    assert network.counts == {f"{kind}: {status} {code}": 1, "passed on": 1}


def test_connections_are_refused_while_the_server_is_away(network, server, client):
    assert put(client) == (200, ANSWER)

    with network.away():
        with pytest.raises(ConnectionError):
            put(client)  # over the connection that was open
        for _ in range(3):
            client.close()
            with pytest.raises(ConnectionRefusedError):
                put(client)
        assert network.connections == 0

    client.close()
    assert put(client) == (200, ANSWER)
    assert server.bodies == [BODY] * 2


def test_plan_holds_for_a_while(network, server, client):
    with network.under(net.dead), pytest.raises(ConnectionError):
        put(client)

    client.close()
    assert put(client) == (200, ANSWER)


def test_closing_ends_what_is_silent_or_late(server):
    with net.Proxy(f"http://127.0.0.1:{server.server_port}", net.silent) as network:
        place = network.endpoint_url.removeprefix("http://").split(":")
        silent = socket.create_connection(place)
        silent.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nsilen")
        while not network.counts:
            time.sleep(0.01)
        network.plan = lambda number, method: Fault(Kind.LATE, seconds=60)
        late = socket.create_connection(place)
        late.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nlate")
        with suppress(ConnectionError):
            assert late.recv(1) == b""

    with suppress(ConnectionError):
        assert silent.recv(1) == b""
    assert server.bodies == [b"late"]
    silent.close()
    late.close()


def test_equal_seeds_are_equal_plans_that_meet_every_kind_at_about_the_share_asked_for():
    plan, same, other = net.seeded(1, share=0.25), net.seeded(1, share=0.25), net.seeded(2, share=0.25)

    met = [plan(number, "PUT") for number in range(2000)]

    assert met == [same(number, "PUT") for number in range(2000)]
    assert met != [other(number, "PUT") for number in range(2000)]
    assert {fault.kind for fault in met} == set(Kind)
    assert {fault.status for fault in met} == {0, 409, 500, 503}
    assert 400 < sum(fault.kind is not Kind.PASSED for fault in met) < 600


def test_reads_are_never_answered_with_a_conflict():
    plan = net.seeded(1, share=1.0)

    assert {plan(number, "GET").status for number in range(500)} == {0, 500, 503}
