"""`pytest --hypothesis-profile thorough`: property tests draw 20,000 examples, also those that usually draw fewer.

HYPOTHESIS_PROFILE=thorough is the same, and BUCKETLOG_TEST_EXAMPLES another number.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

NAME = "thorough"

settings.register_profile(
    NAME,
    max_examples=int(os.environ.get("BUCKETLOG_TEST_EXAMPLES", "20000")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TIMEOUT = timedelta(hours=2)


def pytest_configure() -> None:
    if "HYPOTHESIS_PROFILE" in os.environ:
        settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if settings.get_current_profile_name() != NAME:
        return
    profile = settings.get_profile(NAME)
    for item in items:
        function = getattr(item, "obj", None)
        own = getattr(function, "_hypothesis_internal_use_settings", None)  # state machines have theirs elsewhere
        if is_hypothesis_test(function) and own is not None:
            function._hypothesis_internal_use_settings = settings(
                own, max_examples=profile.max_examples, deadline=None, suppress_health_check=list(HealthCheck)
            )
            item.add_marker(pytest.mark.timeout(TIMEOUT.total_seconds()))
