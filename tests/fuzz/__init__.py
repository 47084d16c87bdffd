"""Invented bad input for everything that comes from outside, and what became of it."""

from tests.fuzz import api, archives, binaries, calls, files, invocations

ALL = [
    *files.TARGETS, *binaries.TARGETS, *archives.TARGETS, *calls.TARGETS, *api.TARGETS,
    *invocations.TARGETS,
]  # fmt: skip
