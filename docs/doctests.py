"""Shows the examples of docstrings (``>>>``) as code on the site."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!>>> |\s*$).*\n?)*)+", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts each run of example lines between fences."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with its examples as fenced blocks of Python."""
    return _EXAMPLE.sub(lambda m: f"```python\n{m[0].rstrip()}\n```\n", text)
