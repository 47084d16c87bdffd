"""Options of the generators, checked before memory is allocated. This file does not need torch."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from posgan_edge.documents import Document

#: Largest number of weights and basis values of a generator (the largest in use has 84 million).
MOST_VALUES = 1 << 28
#: (repeats, width, stride of the first, expansion, fused): dense 3x3 convolutions where the
#: resolution is high (depthwise ones are bound by memory there), inverted residuals after.
STAGES: tuple[tuple[int, int, Literal[1, 2], int, bool], ...] = (
    (1, 32, 1, 1, True),
    (1, 48, 2, 2, True),
    (2, 48, 1, 2, True),
    (1, 96, 2, 4, False),
    (4, 96, 1, 4, False),
    (1, 160, 2, 4, False),
    (2, 160, 1, 3, False),
)
_Width = Annotated[int, Meta(ge=1, le=4096)]
_Small = Annotated[int, Meta(ge=1, le=32)]
_Stage = tuple[_Small, _Width, Literal[1, 2], _Small, bool]


class EdgeConfig(Document, frozen=True):
    """Options of ``EdgeGenerator``."""

    kind: ClassVar[str] = "configuration"

    modes: Annotated[int, Meta(ge=1, le=4096)] = 32  # modes of the basis
    map_size: Annotated[int, Meta(ge=4, le=4096)] = 128  # side of the maps, as in the pack
    layout: str = "ict"  # UV layout; that of the data set unless given
    stem: tuple[_Width, _Width] = (16, 32)  # channels of the first two convolutions
    # stages of the encoder: repeats, channels, stride, expansion, and whether its blocks are fused
    stages: Annotated[tuple[_Stage, ...], Meta(min_length=1, max_length=32)] = STAGES
    neck: _Width = 64  # channels of the features at 4x4
    hidden: Annotated[int, Meta(ge=1, le=1 << 16)] = 256  # width of the first fully connected layer
    skip: Annotated[int, Meta(ge=0, le=4096)] = 0  # channels of the features at 8x8; 0: none

    def __post_init__(self) -> None:
        if prod(stage[2] for stage in self.stages) != 8:
            raise ValueError("stages must halve the resolution three times")
        if self.values() > MOST_VALUES:
            raise ValueError(f"asks for {self.values():.1e} weights, at most {MOST_VALUES:.1e} fit")

    def values(self) -> int:
        """Returns the number of weights and basis values, without batch norms."""
        total = 27 * self.stem[0] + 9 * prod(self.stem)
        width = fine = self.stem[1]
        for repeats, outputs, stride, expansion, fused in self.stages:
            fine = width if stride == 2 else fine
            for _ in range(repeats):
                inner = width * expansion
                total += inner * (9 * width if fused else width + 9) + inner * outputs
                width = outputs
        total += width * self.neck + fine * self.skip + 3 * self.modes * self.hidden
        total += (16 * self.neck + 64 * self.skip) * self.hidden
        return total + self.modes * self.map_size**2


class UNetConfig(Document, frozen=True):
    """Options of ``UNetGenerator``."""

    kind: ClassVar[str] = "configuration"

    ngf: Annotated[int, Meta(ge=1, le=128)] = 64  # channels of the first convolution
    layout: str = "prnet"  # UV layout; that of the data set unless given
