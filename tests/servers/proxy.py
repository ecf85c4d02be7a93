"""A faulty network: an HTTP proxy on loopback that subjects each request to a fault chosen by a plan.

It forwards requests to one server byte for byte, so their signatures stay valid. The plan chooses a fault by the number
of the request, and the proxy counts the faults. It can also go away for a while, so that connections are refused.
"""

from __future__ import annotations

import enum
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Plan = Callable[[int, str], "Fault"]

THREADS_PREFIX = "proxy-"
_CONNECT_SECONDS = 10
_BACKLOG = 128
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: drop unsent data, and send the other side an RST


class Kind(enum.StrEnum):
    """What happens to a request and its answer."""

    PASSED = "passed on"
    DELAYED = "delayed"
    CUT_BEFORE = "cut before the server got it"
    CUT_IN_REQUEST = "cut when the server had half of it"
    CUT_AFTER = "cut when the server had acted"
    CUT_IN_ANSWER = "cut in the middle of the answer"
    LATE = "cut, and given to the server later"
    SILENT_BEFORE = "never answered, and kept from the server"
    SILENT_AFTER = "never answered, though the server had acted"
    ANSWERED_BEFORE = "answered in the stead of the server"
    ANSWERED_AFTER = "answered otherwise than the server, which had acted"


_WITHOUT_SERVER = (Kind.CUT_BEFORE, Kind.LATE, Kind.SILENT_BEFORE, Kind.ANSWERED_BEFORE)


class Fault(NamedTuple):
    """A kind of fault, with the status and code of an answer, or the seconds to wait."""

    kind: Kind
    status: int = 0
    code: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name under which the fault is counted."""
        return f"{self.kind}: {self.status} {self.code}" if self.status else self.kind.value


def good(number: int, method: str) -> Fault:
    """Forward every request."""
    return Fault(Kind.PASSED)


def dead(number: int, method: str) -> Fault:
    """Cut every connection."""
    return Fault(Kind.CUT_BEFORE)


def silent(number: int, method: str) -> Fault:
    """Accept every request, forward none, and never answer."""
    return Fault(Kind.SILENT_BEFORE)


def seeded(seed: int, *, share: float) -> Plan:
    """Return a plan that gives a share of the requests a random fault. Equal seeds give equal plans."""

    def plan(number: int, method: str) -> Fault:
        chance = random.Random(f"{seed} {number}")
        if chance.random() >= share:
            return Fault(Kind.PASSED)
        kind = chance.choice([kind for kind in Kind if kind is not Kind.PASSED])
        seconds = chance.uniform(0.01, 0.5)
        if kind in (Kind.ANSWERED_BEFORE, Kind.ANSWERED_AFTER):
            answers = [(500, "InternalError"), (503, "SlowDown")]
            if method == "PUT":
                answers.append((409, "ConditionalRequestConflict"))
            return Fault(kind, *chance.choice(answers))
        return Fault(kind, seconds=seconds)

    return plan


class Proxy:
    """Listens from its creation on. `close()` cuts all connections and ends all threads.

    Attributes:
        endpoint_url: The URL on which it listens.
        plan: The current plan; may be replaced at any time.
        counts: How often each fault occurred, by its name.
    """

    def __init__(self, server_url: str, plan: Plan = good) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._address = self._socket.getsockname()
        self.endpoint_url = f"http://127.0.0.1:{self._address[1]}"
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards the counts and everything below
        self._number = 0
        self._open: set[socket.socket] = set()
        self._serving: set[threading.Thread] = set()
        self._late: set[threading.Thread] = set()
        self._hurry = threading.Event()
        self._away = True
        self._come_back()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """The number of open client connections."""
        return len(self._serving)

    @contextmanager
    def under(self, plan: Plan) -> Iterator[None]:
        """Follow another plan for a while."""
        self.plan, before = plan, self.plan
        try:
            yield
        finally:
            self.plan = before

    @contextmanager
    def away(self) -> Iterator[None]:
        """Cut all connections, and refuse new ones for a while."""
        self._leave()
        try:
            yield
        finally:
            self._come_back()

    def settle(self) -> None:
        """Send the server all late requests now, and wait until it has answered them."""
        self._hurry.set()
        for thread in list(self._late):
            thread.join()
        self._hurry.clear()

    def close(self) -> None:
        """Cut all connections and end all threads."""
        self._leave()
        self._socket.close()
        self.settle()

    def _leave(self) -> None:
        with self._lock:
            self._away = True
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        with suppress(OSError), socket.create_connection(self._address):
            pass  # wakes the thread that accepts
        self._accepting.join()
        for thread in list(self._serving):
            thread.join()
        self._socket.close()
        # This keeps the port, which would otherwise be given to another process.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(self._address)

    def _come_back(self) -> None:
        self._away = False
        self._socket.listen(_BACKLOG)
        self._accepting = threading.Thread(target=self._accept, name=f"{THREADS_PREFIX}accept")
        self._accepting.start()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for number in range(1 << 62):
            client, _ = self._socket.accept()
            thread = threading.Thread(target=self._serve, args=(client,), name=f"{THREADS_PREFIX}{number}")
            with self._lock:
                if self._away:
                    client.close()
                    return
                self._serving.add(thread)
                self._open.add(client)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        """Forward one request after another, until one side or a fault ends the connection."""
        server: socket.socket | None = None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile("rb") as requests:
                while (request := _read_request(requests, client)) is not None:
                    fault = self._decide(request)
                    if fault.kind not in _WITHOUT_SERVER and server is None:
                        server = self._connect()
                    if not self._meet(fault, request, client, server):
                        return
        except OSError:
            pass  # one side is gone, so close the other as well
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            if server is not None:
                server.close()
            with self._lock:
                self._serving.discard(threading.current_thread())

    def _connect(self) -> socket.socket:
        server = socket.create_connection(self._server, timeout=_CONNECT_SECONDS)
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(server)
            if self._away:
                server.shutdown(socket.SHUT_RDWR)
        return server

    def _decide(self, request: bytes) -> Fault:
        method = _method_of(request)
        with self._lock:
            self._number += 1
            fault = self.plan(self._number, method)
            self.counts[fault.name] += 1
        return fault

    # -- faults --------------------------------------------------------------------------------------------------------

    def _meet(self, fault: Fault, request: bytes, client: socket.socket, server: socket.socket | None) -> bool:
        """Apply a fault; return True if the connection stays open."""
        kind = fault.kind
        if kind is Kind.CUT_BEFORE:
            return _cut(client)
        if kind is Kind.SILENT_BEFORE:
            return _say_nothing(client)
        if kind is Kind.LATE:
            self._give_later(request, fault.seconds)
            return _cut(client)
        if kind is Kind.ANSWERED_BEFORE:
            client.sendall(_answer(fault, request))
            return True
        assert server is not None
        if kind is Kind.CUT_IN_REQUEST:
            server.sendall(request[: len(request) // 2])
            return False
        if kind is Kind.DELAYED:
            self._hurry.wait(fault.seconds)
        server.sendall(request)
        answer = _read_answer(server, _method_of(request))
        if not answer or kind is Kind.CUT_AFTER:
            return _cut(client)
        if kind is Kind.SILENT_AFTER:
            return _say_nothing(client)
        if kind is Kind.CUT_IN_ANSWER:
            client.sendall(answer[: len(answer) // 2])
            return False
        client.sendall(_answer(fault, request) if kind is Kind.ANSWERED_AFTER else answer)
        return True

    def _give_later(self, request: bytes, seconds: float) -> None:
        def give() -> None:
            self._hurry.wait(seconds)
            with suppress(OSError), socket.create_connection(self._server, timeout=_CONNECT_SECONDS) as server:
                server.sendall(request)
                _read_answer(server, _method_of(request))
            with self._lock:
                self._late.discard(thread)

        thread = threading.Thread(target=give, name=f"{THREADS_PREFIX}late")
        with self._lock:
            self._late.add(thread)
        thread.start()


def _cut(client: socket.socket) -> bool:
    """Make a connection end as if it were broken, not closed. Always returns False."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return False


def _say_nothing(client: socket.socket) -> bool:
    """Wait until the client closes the connection. Always returns False."""
    while client.recv(65536):
        pass
    return False


def _answer(fault: Fault, request: bytes) -> bytes:
    body = f"<Error><Code>{fault.code}</Code><Message>the network is bad</Message></Error>".encode()
    head = f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + (b"" if _method_of(request) == "HEAD" else body)


# -- just enough HTTP to know where a message ends ---------------------------------------------------------------------


def _method_of(request: bytes) -> str:
    return request[: request.index(b" ")].decode("ascii")


def _read_request(source: BinaryIO, client: socket.socket) -> bytes | None:
    """Return the next complete request; None if there is none."""
    head, headers = _read_head(source)
    if not head.endswith(b"\r\n\r\n"):
        return None
    if headers.get(b"expect", b"").lower() == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return head + _read_body(source, headers)


def _read_answer(server: socket.socket, method: str) -> bytes:
    """Return the next complete answer; empty if the server closed the connection."""
    with server.makefile("rb") as source:
        while True:
            head, headers = _read_head(source)
            if not head.endswith(b"\r\n\r\n"):
                return b""
            status = int(head.split(b" ", 2)[1])
            if status >= 200:
                break
        return head if method == "HEAD" or status in (204, 304) else head + _read_body(source, headers)


def _read_head(source: BinaryIO) -> tuple[bytes, dict[bytes, bytes]]:
    lines = [source.readline()]
    while lines[-1] not in (b"\r\n", b""):
        lines.append(source.readline())
    pairs = (line.partition(b":") for line in lines[1:])
    return b"".join(lines), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _read_body(source: BinaryIO, headers: dict[bytes, bytes]) -> bytes:
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return _read_exactly(source, int(headers.get(b"content-length", b"0")))
    parts = []
    size = 1
    while size:
        line = source.readline()
        size = int(line.partition(b";")[0] or b"-1", 16)
        parts += [line, _read_exactly(source, size + 2)] if size else [line]
    while parts[-1] not in (b"\r\n", b""):  # trailers, which are rare
        parts.append(source.readline())
    return b"".join(parts)


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size) if size >= 0 else b""
    if len(data) != size:
        raise ConnectionError("the other side is gone")
    return data
