"""The base class of what holds a resource."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T", bound="Closing")


class Closing:
    """A context manager that is closed at the end of its block. A second ``close`` does nothing."""

    def close(self) -> None:
        """Frees the resource."""
        raise NotImplementedError

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
