"""Invented bad input for everything that comes from outside, and what became of it."""

from tests.fuzz import binaries, calls, files

ALL = [*files.TARGETS, *binaries.TARGETS, *calls.TARGETS]
