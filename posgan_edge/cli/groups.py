"""Groups of options: what they have in common, and how commands take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, ClassVar

from posgan_edge.errors import UsageError


class Group:
    """Options that belong together: ``declared`` for click, the fields for their values."""

    declared: ClassVar[Sequence[Callable[..., Any]]] = ()


def takes(*groups: type[Group]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of groups; the function takes one object for each group."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def call(**values: Any) -> None:
            made = [group(**{f.name: values[f.name] for f in fields(group)}) for group in groups]  # type: ignore[arg-type]
            function(*made)

        for declare in reversed([d for group in groups for d in group.declared]):
            call = declare(call)
        return call

    return decorate


#: Flags of what library errors name.
_FLAGS = {"overwrite": "--overwrite replaces it", "size": "--size WIDTHxHEIGHT"}


def with_flags(error: UsageError) -> UsageError:
    """The error with the flags of the options that it names."""
    flags = [_FLAGS[field] for field in error.fields if field in _FLAGS]
    return UsageError(f"{error} ({', '.join(flags)})") if flags else error


def numbers(option: str, text: str, what: str) -> tuple[float, float, float, float]:
    """Four numbers of an option. Raises UsageError where they are not."""
    try:
        a, b, c, d = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give four numbers {what}") from error
    return a, b, c, d
