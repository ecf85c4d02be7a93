"""Real S3 servers on this machine, for tests and for experiments.

Each server is a separate process, on free ports of 127.0.0.1, with its data in a temporary folder. A keeper process
stops the server and removes the data when the process that started it ends, even if that one is killed. On the command
line, use `python -m tests.servers`.
"""

from .keeper import keep
from .server import MissingServerError, Server, ServerStartError

__all__ = ["MissingServerError", "Server", "ServerStartError", "keep"]
