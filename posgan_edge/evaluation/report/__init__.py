"""The benchmark's report: one HTML file with its pictures, Markdown and JSON."""

from __future__ import annotations

#: Text of a cell whose figure is None.
NOT_MEASURED = "not measured"


def number(value: float | None, form: str = ".3f") -> str:
    """The text of a figure."""
    return NOT_MEASURED if value is None else format(value, form)
