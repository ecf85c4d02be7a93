"""For tests of backends and stores: conformance suites, injected faults, a model, and a controllable clock."""

import pytest

# pytest rewrites the assertions of a module while importing it, so this comes before the imports. Without it, an author
# would see a bare AssertionError. The name of a package covers all modules in it.
pytest.register_assert_rewrite("bucketlog.testing.backend", "bucketlog.testing.store")

from bucketlog.storage.wrapper import BackendWrapper  # noqa: E402  (see above)
from bucketlog.testing.backend import BackendSuite  # noqa: E402  (see above)
from bucketlog.testing.clocks import FakeClock  # noqa: E402  (see above)
from bucketlog.testing.faults import (  # noqa: E402  (see above)
    Call,
    Crash,
    CrashAfter,
    Fail,
    FaultyBackend,
    HeldCall,
    Hold,
    LoseAnswer,
    Page,
    Plan,
    PowerCutBackend,
    PowerCutDisk,
    SimulatedCrash,
    Tear,
    on,
    with_faults,
)
from bucketlog.testing.model import (  # noqa: E402  (see above)
    ANYTHING,
    Answer,
    Attempt,
    Change,
    ModelCheckpoint,
    ModelError,
    ModelStream,
    answer,
)
from bucketlog.testing.store import StoreSuite  # noqa: E402  (see above)
from bucketlog.testing.store.harness import OpenStore  # noqa: E402  (see above)

__all__ = [
    "ANYTHING",
    "Answer",
    "Attempt",
    "BackendSuite",
    "BackendWrapper",
    "Call",
    "Change",
    "Crash",
    "CrashAfter",
    "Fail",
    "FakeClock",
    "FaultyBackend",
    "HeldCall",
    "Hold",
    "LoseAnswer",
    "ModelCheckpoint",
    "ModelError",
    "ModelStream",
    "OpenStore",
    "Page",
    "Plan",
    "PowerCutBackend",
    "PowerCutDisk",
    "SimulatedCrash",
    "StoreSuite",
    "Tear",
    "answer",
    "on",
    "with_faults",
]
