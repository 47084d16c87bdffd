"""Groups of options, shared by commands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from posgan_edge.geometry.values import FaceBox

#: Largest number of faces in a picture, and the default for pictures.
ALL_FACES = 64


class Group:
    """Options that belong together: a dataclass whose fields are made by ``option`` and
    ``argument``."""


def option(*names: str, **settings: Any) -> Any:
    """A field of a group that is an option of the command, as ``click.option`` declares it."""
    return field(metadata={"click": click.option(*names, **settings)})


def argument(*names: str, **settings: Any) -> Any:
    """A field of a group that is an argument of the command."""
    return field(metadata={"click": click.argument(*names, **settings)})


class Finite(click.FloatRange):
    """A number within a range, and neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def __repr__(self) -> str:
        return super().__repr__() if (self.min, self.max) != (None, None) else "FLOAT"

    def _describe_range(self) -> str:
        # Without limits click would show "x<=None".
        return super()._describe_range() if (self.min, self.max) != (None, None) else ""


def console() -> Console:
    """Returns a console on standard output. A closed pipe raises BrokenPipeError, as elsewhere;
    rich's own ends the process with 1, which says that a budget was missed."""
    from rich.console import Console

    class _Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return _Plain()


def takes(*groups: type[Group]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of groups to a command.

    Returns a decorator. The decorated function is called with one object for each group.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def call(**values: Any) -> None:
            made = [group(**{f.name: values[f.name] for f in fields(group)}) for group in groups]  # type: ignore[arg-type]
            function(*made)

        for declared in reversed([f for group in groups for f in fields(group)]):  # type: ignore[arg-type]
            call = declared.metadata["click"](call)
        return call

    return decorate


#: What to say about each field that a UsageError of the library can name.
_FLAGS = {
    "overwrite": "--overwrite replaces it",
    "resume": "--resume continues it",
    "size": "--size WIDTHxHEIGHT",
}


def with_flags(error: UsageError) -> UsageError:
    """Returns the error with the options for the fields that it names."""
    flags = [_FLAGS[field] for field in error.fields if field in _FLAGS]
    return UsageError(f"{error} ({', '.join(flags)})") if flags else error


def numbers(option: str, text: str, what: str) -> tuple[float, float, float, float]:
    """Returns the four numbers in ``text``, separated by commas.

    ``option`` and ``what`` are for the message. Raises UsageError if it is not four numbers.
    """
    try:
        a, b, c, d = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give four numbers {what}") from error
    return a, b, c, d


@dataclass(frozen=True)
class ModelOptions(Group):
    """The network, and what is read from its maps."""

    model: str = option(
        "--model", default="edge", show_default=True, help="Shipped name or model file."
    )
    provider: str | None = option(
        "--provider", type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
        help="Runtime for an ONNX model.  [default: the one it was built for]",
    )  # fmt: skip
    verify: Path | None = option(
        "--verify", type=Path, help="Public key; an engine must be signed by it."
    )
    uv_mask: Path | None = option(
        "--uv-mask", type=Path, help="Face mask of the UV layout, for layouts without one."
    )
    landmarks: str = option(
        "--landmarks", type=click.Choice(["aflw", "300w"]), default="aflw", show_default=True,
        help="Landmark set: that of AFLW2000-3D, or where people put the 68 points.",
    )  # fmt: skip


@dataclass(frozen=True)
class SearchOptions(Group):
    """Which faces are looked for in pictures, and how."""

    max_faces: int | None = option(
        "--max-faces", default=None, type=click.IntRange(1, ALL_FACES),
        help=f"Most faces at a time.  [default: {ALL_FACES} in pictures, 1 in videos and cameras]",
    )  # fmt: skip
    box: str | None = option(
        "--box", metavar="X,Y,W,H", help="Face box, used instead of the detector."
    )
    passes: int | None = option(
        "--passes", default=None, type=click.IntRange(1, 3),
        help="Pictures: network runs, each on a crop around the last result.  [default: 2]",
    )  # fmt: skip
    mirror: bool = option(
        "--mirror", is_flag=True, help="Average with the mirrored crop; takes twice the time."
    )

    def boxes(self) -> list[FaceBox] | None:
        """Returns --box as a list with one box in pixels; None if it is not given.

        Raises UsageError if it is not a box.
        """
        if self.box is None:
            return None
        from posgan_edge.geometry.values import FaceBox

        x, y, width, height = numbers("--box", self.box, "X,Y,W,H in pixels")
        if not (width > 0 and height > 0):
            raise UsageError(f"--box {self.box}: width and height must be above zero")
        return [FaceBox(x, y, width, height)]
