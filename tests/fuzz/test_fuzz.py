"""A short run of every target; ``make fuzz`` tries them for an hour."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import ALL
from tests.fuzz.targets import ACCEPTED, REFUSED, outcome


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_every_case_is_used_or_refused_in_one_line(target):
    @settings(
        max_examples=target.examples, database=None, deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(target.cases())
    def every(case):
        found = outcome(target, case)
        assert found.kind in (ACCEPTED, REFUSED), f"{found} {case!r:.300}"

    every()
