"""Values that may be None, where a test needs one."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def there(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value
