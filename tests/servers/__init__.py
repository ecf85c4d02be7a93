"""Real S3 servers on this machine, for tests and for trying things out.

Each server is a process of its own, on free ports of 127.0.0.1, with its data in a temporary folder; a keeper process
stops it and removes the data when whoever asked for it ends, however that happens. `python -m tests.servers` is the
same for people.
"""

from .keeper import keep
from .server import MissingServerError, Server, ServerStartError

__all__ = ["MissingServerError", "Server", "ServerStartError", "keep"]
