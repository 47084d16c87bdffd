"""Typed documents: JSON and YAML files read into msgspec structs, and written from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from posgan_edge.errors import BadInput, needing
from posgan_edge.files import read_limited, write_whole

#: Largest JSON and YAML file that is read, in bytes (YAML takes about a second per megabyte).
LIMIT, YAML_LIMIT = 32 << 20, 1 << 20


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every document: immutable, and unknown keys are refused.

    ``kind`` is what error messages call the document.
    """

    kind: ClassVar[str] = "document"


D = TypeVar("D", bound=Document)


def load(path: str | Path, type_: type[D], upgrade: Callable[[Any], Any] | None = None) -> D:
    """A document from a JSON file, or from YAML (see ``read``).

    ``upgrade`` turns the plain content of an older version into that of this one. Raises
    BadInput in one line that names the file and the field.
    """
    content = read(path, type_.kind)
    return convert(upgrade(content) if upgrade else content, type_, path)


def save(path: str | Path, document: Document) -> None:
    """Writes a document as JSON (atomically). Raises BadInput for NaN and infinity."""
    write_whole(path, text_of(document, path))


def text_of(document: Document, where: str | Path) -> str:
    """A document as JSON text. Raises BadInput, beginning with ``where``, for NaN and infinity."""
    content = plain(document)
    _check_finite(content, f"{where}: ")
    return json.dumps(content, indent=1) + "\n"


def plain(value: Any) -> Any:
    """The dictionaries, lists, strings and numbers that a document is made of."""
    return msgspec.to_builtins(value, enc_hook=_scalar)


def read(path: str | Path, kind: str = "document") -> Any:
    """The plain content of a regular file: JSON, or YAML where ``kind`` is a recipe or the file's
    suffix is ``.yaml`` or ``.yml``. Raises BadInput; ``kind`` is what it calls the document.
    """
    path = Path(path)
    yaml = path.suffix in (".yaml", ".yml") or kind.endswith("recipe")
    data = read_limited(path, YAML_LIMIT if yaml else LIMIT)
    try:
        text = data.decode()
        return parse_yaml(text) if yaml else json.loads(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a valid {kind}: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a valid {kind}: {_one_line(error)}") from error


def parse_yaml(text: str) -> Any:
    """The content of YAML text; ``2e-3`` is a number. Raises BadInput for other text."""
    with needing("PyYAML", "reading recipes", "build"):
        import yaml
    try:
        return yaml.load(text, _yaml_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"not valid YAML: {_one_line(error)}") from error


def convert(content: Any, type_: type[D], where: str | Path) -> D:
    """A document from plain content. Raises BadInput; ``where`` names the file."""
    prefix = f"{where}: not a valid {type_.kind}: "
    _check_finite(content, prefix)
    try:
        document = msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        raise BadInput(prefix + _reason(str(error))) from error
    if unknown := _unknown_key(content, document):
        raise BadInput(f"{prefix}unknown key {unknown}")
    return document


def _unknown_key(content: Any, value: Any, field: str = "") -> str:
    """The first key of ``content`` that a dataclass inside a document does not have, or "".

    msgspec refuses unknown keys of structs and ignores those of dataclasses.
    """
    if isinstance(content, dict):
        if is_dataclass(value) and (unknown := set(content) - {f.name for f in fields(value)}):
            return f"{min(unknown)!r}" + (f" in {field}" if field else "")
        pairs = [(k, c, _member(value, k)) for k, c in content.items()]
    elif isinstance(content, list) and isinstance(value, (list, tuple)):
        pairs = [(str(i), *both) for i, both in enumerate(zip(content, value, strict=True))]
    else:
        return ""
    places = ((f"{field}.{key}" if field else str(key), c, v) for key, c, v in pairs)
    return next((found for place, c, v in places if (found := _unknown_key(c, v, place))), "")


def _member(value: Any, key: Any) -> Any:
    """What ``value`` holds under a key: a mapping's item, or an attribute."""
    return value.get(key) if isinstance(value, dict) else getattr(value, str(key), None)


def nan_to_none(content: Any) -> Any:
    """Plain content in which NaN, which version 0.1 wrote for "not measured", became None."""
    if isinstance(content, dict):
        return {key: nan_to_none(value) for key, value in content.items()}
    if isinstance(content, list):
        return [nan_to_none(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _scalar(value: Any) -> Any:
    """The Python number of a numpy scalar."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no place in a document")


def _reason(message: str) -> str:
    """msgspec's message with the field first: ``optimizer.lr: expected float, got str``."""
    text, _, place = message.replace("`", "").partition(" - at ")
    field = place.strip("`").removeprefix("$").removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field (.*)", text):
        return f"unknown key {unknown[1]!r}" + (f" in {field}" if field else "")
    if absent := re.fullmatch(r"Object missing required field (.*)", text):
        return f"key {absent[1]!r} is missing" + (f" in {field}" if field else "")
    text = text.replace("Invalid enum value", "unknown value")
    text = text[:1].lower() + text[1:]
    text = text.replace("object", "a mapping").replace("array", "a list")
    return f"{field}: {text}" if field else text


def _check_finite(content: Any, prefix: str, field: str = "") -> None:
    if isinstance(content, dict):
        for key, value in content.items():
            _check_finite(value, prefix, f"{field}.{key}" if field else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            _check_finite(value, prefix, f"{field}[{index}]")
    elif isinstance(content, float) and not math.isfinite(content):
        raise BadInput(f"{prefix}{field}: {content} is not a finite number")


def _one_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())


@cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader with YAML 1.2's floats and without aliases.

    A few nested aliases stand for more values than fit into memory.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not supported")
            return super().compose_node(parent, index)

    number = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader
