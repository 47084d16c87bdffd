"""A short run of every target; ``make fuzz`` tries them for an hour."""

import pytest
from hypothesis import HealthCheck, given, settings

from posgan_edge.cli import COMMANDS
from tests.fuzz import ALL, api, invocations
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


def test_every_parameter_of_the_public_api_has_a_good_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {(name, p) for name, make in api.CALLS.items() for p in make()[1]}
    assert set(api.parameters()) - found == set()
    for make in api.CALLS.values():
        call, arguments = make()
        call(**arguments)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_has_a_kind_of_bad_values(command):
    kinds = {invocations.kind_of(command, o) for o in invocations.parameters(command)}
    known = {"flag", "choice", "output", "folder", *invocations.TEXTS, *invocations.KINDS}
    assert kinds - known == set()
    assert invocations.STARTS[command]
