"""`python -m tests.servers prepare` and `python -m tests.servers run minio`."""

from __future__ import annotations

import argparse
import json
import sys
import time

from .keeper import SERVERS, run
from .server import MissingServerError, Server
from .settings import in_ci

EPILOG = "example: python -m tests.servers run minio --port 9000"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.servers", description="Real S3 servers on this machine.")
    parser.epilog = EPILOG
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="build or install the servers")
    preparing.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(SERVERS)} (default: all)")
    running = commands.add_parser("run", help="run a server until Ctrl-C, and print how to open it")
    running.add_argument("name", choices=SERVERS)
    running.add_argument("--port", type=int, help="the port to listen on (default: a free one)")
    keeping = commands.add_parser("keep", help="run a server until standard input ends, and print its options as JSON")
    keeping.add_argument("name", choices=SERVERS)
    given = parser.parse_args()
    if given.command == "prepare":
        unknown = set(given.names) - SERVERS.keys()
        if unknown:
            parser.error(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(SERVERS)}")
        return prepare(given.names or list(SERVERS))
    if given.command == "run":
        return run(given.name, port=given.port, ready=show, until_end_of_input=False)
    return run(given.name, port=None, ready=tell, until_end_of_input=True)


def prepare(names: list[str]) -> int:
    """Prepare servers, and print a line for each. One that is not available is an error only in CI."""
    left_out = 0
    for name in names:
        begin = time.monotonic()
        try:
            print(f"{name}: ready ({SERVERS[name].prepare()}), {time.monotonic() - begin:.0f} s", flush=True)
        except MissingServerError as reason:
            left_out += 1
            print(f"{name}: left out: {reason}", flush=True)
    return 1 if left_out and in_ci() else 0


def show(server: Server) -> None:
    """Print how to open the server, in Python and with environment variables."""
    print(f"{server.name} {server.version} runs until Ctrl-C.\n")
    print(f'bucketlog.open(\n    "{server.url("prefix")}",')
    for name, value in server.options.items():
        print(f'    {name}="{value}",')
    print(")\n")
    for name, value in server.options.items():
        print(f"export AWS_{name.upper()}={value}")
    sys.stdout.flush()


def tell(server: Server) -> None:
    """Print how to open the server, for the process that started it."""
    print(json.dumps(server.to_json()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
