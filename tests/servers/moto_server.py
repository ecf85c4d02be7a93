"""moto's server, with a lock around PUTs: without it, the condition is checked and the object written separately.

Under load, two of eight rivals would then sometimes win the same race, which does not happen with real servers.
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
