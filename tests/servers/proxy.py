"""A network that can be made bad: an HTTP proxy on loopback that does to each request what a plan says.

It stands in front of one server and hands requests on byte for byte, so that their signatures stay right. The plan
decides by the number of the request; what was decided is counted. It can also be away for a while, so that connections
are refused.
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
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is unsent is dropped, and the other side told with RST


class Kind(enum.StrEnum):
    """What becomes of a request and its answer."""

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
    """A kind, and what it needs: the status and code of an answer, seconds to wait."""

    kind: Kind
    status: int = 0
    code: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.kind}: {self.status} {self.code}" if self.status else self.kind.value


def good(number: int, method: str) -> Fault:
    """Pass everything on."""
    return Fault(Kind.PASSED)


def dead(number: int, method: str) -> Fault:
    """Let nothing through."""
    return Fault(Kind.CUT_BEFORE)


def silent(number: int, method: str) -> Fault:
    """Accept everything, let nothing through, and say nothing."""
    return Fault(Kind.SILENT_BEFORE)


def seeded(seed: int, *, share: float) -> Plan:
    """Return a plan by which a share of the requests meets one of all faults; equal seeds are equal plans."""

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
    """Listens from its making on; `close()` cuts what is open and ends all threads.

    Attributes:
        endpoint_url: Where it listens.
        plan: May be set at any time.
        counts: How often each fault was met, by its name.
    """

    def __init__(self, server_url: str, plan: Plan = good) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._address = self._socket.getsockname()
        self.endpoint_url = f"http://127.0.0.1:{self._address[1]}"
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards all that follows, and the counts
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
        """How many connections of clients are open."""
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
        """Cut what is open, and have new connections refused for a while."""
        self._leave()
        try:
            yield
        finally:
            self._come_back()

    def settle(self) -> None:
        """Give the server at once what it was to get later, and return when it has answered all of it."""
        self._hurry.set()
        for thread in list(self._late):
            thread.join()
        self._hurry.clear()

    def close(self) -> None:
        """Cut what is open and end all threads."""
        self._leave()
        self._socket.close()
        self.settle()

    def _leave(self) -> None:
        with self._lock:
            self._away = True
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        with suppress(OSError), socket.create_connection(self._address):
            pass  # wakes the thread that accepts
        self._accepting.join()
        for thread in list(self._serving):
            thread.join()
        self._socket.close()
        # It holds the port, which others would be given else.
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
        """Hand on one request after the other, until one side or a fault ends the connection."""
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
            pass  # one side is gone, so is the other then
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
        """Do what a fault says; tell whether the connection goes on."""
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
    """Have a connection end as a broken one does, not as a closed one; always False."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return False


def _say_nothing(client: socket.socket) -> bool:
    """Return when the client has had enough; always False."""
    while client.recv(65536):
        pass
    return False


def _answer(fault: Fault, request: bytes) -> bytes:
    body = f"<Error><Code>{fault.code}</Code><Message>the network is bad</Message></Error>".encode()
    head = f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + (b"" if _method_of(request) == "HEAD" else body)


# -- as much of HTTP as it takes to know where a message ends ----------------------------------------------------------


def _method_of(request: bytes) -> str:
    return request[: request.index(b" ")].decode("ascii")


def _read_request(source: BinaryIO, client: socket.socket) -> bytes | None:
    """Return the next request, whole; None when there is no more."""
    head, headers = _read_head(source)
    if not head.endswith(b"\r\n\r\n"):
        return None
    if headers.get(b"expect", b"").lower() == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return head + _read_body(source, headers)


def _read_answer(server: socket.socket, method: str) -> bytes:
    """Return the next answer, whole; nothing when the server closed the connection instead."""
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
    while parts[-1] not in (b"\r\n", b""):  # trailers, of which there are seldom any
        parts.append(source.readline())
    return b"".join(parts)


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size) if size >= 0 else b""
    if len(data) != size:
        raise ConnectionError("the other side is gone")
    return data
