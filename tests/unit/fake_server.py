"""An HTTP server that answers as told, also wrongly, late or not at all, and keeps what it was asked."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field

DROPPED = "dropped"  # the request is read to its end, and the connection closed
SILENT = "silent"  # the request is read, and never answered


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def answer(status=200, body="", **headers):
    """Build an answer; header names are written with underscores."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


def refusal(status, code=""):
    """Build an answer with an error code in its body, as S3 servers send it."""
    return answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>" if code else "")


STORED = answer(200, ETag='"an-etag"')


def found(body):
    return answer(200, body, ETag='"an-etag"', Last_Modified="Fri, 20 Nov 2026 10:00:00 GMT")


@dataclass
class FakeServer:
    """Answers the first request with the first answer and so on; the last answer is given again and again."""

    answers: list = field(default_factory=lambda: [STORED])
    tls: object = None

    def __enter__(self):
        self.requests = []
        self._closing = threading.Event()
        self._open = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        with socket.create_connection(self._socket.getsockname()):
            pass  # wakes the thread
        self._thread.join()
        self._socket.close()
        for connection in self._open:
            connection.close()

    def _serve(self):
        while True:
            connection, _ = self._socket.accept()
            if self._closing.is_set():
                connection.close()
                return
            try:
                self._answer(connection)
            except OSError:
                connection.close()

    def _answer(self, connection):
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        request = _read(connection)
        if request is None:
            connection.close()
            return
        self.requests.append(request)
        what = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if what is SILENT:
            self._open.append(connection)
            return
        if what is not DROPPED:
            connection.sendall(what)
        connection.close()


def _read(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("expect") == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    return Request(method, target, headers, body)
