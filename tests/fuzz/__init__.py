"""Invented bad input for everything that comes from outside, and what became of it."""

from tests.fuzz import api, binaries, calls, files, invocations

ALL = [*files.TARGETS, *binaries.TARGETS, *calls.TARGETS, *api.TARGETS, *invocations.TARGETS]
