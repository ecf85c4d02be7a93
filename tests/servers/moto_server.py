"""moto's server, made to keep what S3 promises: it checks the condition of a PUT and writes without a lock in between.

Under load two rivals of eight then win a race now and again, which no server that people use does.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

_one_at_a_time = threading.Lock()
_put_object = S3Response.put_object


def put_object(self: S3Response) -> Any:
    with _one_at_a_time:
        return _put_object(self)


S3Response.put_object = put_object  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
