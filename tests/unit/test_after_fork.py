"""What is registered for a forked child: called in order, each one of them, and only while its object lives."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

PROGRAM = """
import os
from bucketlog.backend import after_fork_in_child

class Part:
    def __init__(self, name, fails=False):
        self.name, self.fails = name, fails
        after_fork_in_child(self.begin)

    def begin(self):
        if self.fails:
            raise ValueError(self.name)
        print(self.name, flush=True)

def function():
    print("function", flush=True)

{body}
if not os.fork():
    os._exit(0)
os.wait()
"""


def forked(body: str) -> tuple[list[str], str]:
    """What a forked child prints, and what it says on stderr."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.split(), ran.stderr


@pytest.mark.slow
def test_callbacks_run_in_the_order_in_which_they_were_registered():
    ran, said = forked("parts = [Part('1'), Part('2')]; after_fork_in_child(function); parts.append(Part('3'))")

    assert ran == ["1", "2", "function", "3"]
    assert said == ""


@pytest.mark.slow
def test_object_that_is_gone_is_not_called():
    ran, said = forked("part = Part('gone'); kept = Part('kept'); del part")

    assert ran == ["kept"]
    assert said == ""


@pytest.mark.slow
def test_callback_that_raises_is_reported_and_the_others_still_run():
    ran, said = forked("parts = [Part('1'), Part('2', fails=True), Part('3')]")

    assert ran == ["1", "3"]
    assert "ValueError: 2" in said


@pytest.mark.slow
def test_child_of_a_child_calls_them_too():
    ran, _ = forked("part = Part('1')\nif os.fork():\n    os.wait()\n    os._exit(0)")

    assert ran == ["1", "1"]
