"""The sample portrait in motion: a source that needs no camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.errors import UsageError
from posgan_edge.images import read_image
from posgan_edge.live.sources.base import Source

#: The part of the portrait that is shown: its centre and height in pixels.
_CENTER, _PART = (224.0, 150.0), 300.0
_BACKGROUND = (96, 88, 80)
#: The portrait's eyes, in its pixels: corner, two points of the lid, corner (x, y).
_LIDS = (
    (
        ((196.8, 100.6), (201.0, 98.0), (207.0, 98.4), (212.4, 102.6)),
        ((196.8, 100.6), (201.0, 103.0), (207.4, 103.4), (212.4, 102.6)),
    ),
    (
        ((237.0, 104.6), (243.4, 100.8), (250.2, 100.9), (255.4, 104.0)),
        ((237.0, 104.6), (243.2, 106.0), (249.6, 106.1), (255.4, 104.0)),
    ),
)
#: A blink closes in the first part of its time, stays closed for the second, opens in the third.
_BLINK = (0.10 / 0.33, 0.08 / 0.33, 0.15 / 0.33)
#: The skin above an eye that is drawn down over it, in portrait pixels.
_LID_SKIN = 7.0
#: What the fields of ``Motion`` may be; those that are not here, 0 to a million.
_RANGES = {
    "width": (64, 8192), "height": (64, 8192), "fps": (0.01, 1000), "faces": (1, 16),
    "sway": (0, 10), "roll": (0, 180), "zoom": (0, 0.9), "period": (0.01, 1e6), "noise": (0, 255),
    "jpeg": (0, 100), "every": (0.01, 1e6), "blink_takes": (0.01, 60),
}  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """How the portrait moves, and what disturbs the picture; set by ``synthetic:?faces=2&noise=6``.

    ``sway`` is in face widths, ``roll`` in degrees to either side, ``zoom`` in parts of the face's
    size, ``period`` the seconds of a whole swing; ``noise`` the standard deviation of grey levels,
    ``jpeg`` the quality of a compression that every frame goes through (0: none). ``blank`` and
    ``every``: for that many seconds out of so many there is no face. ``blink`` is the time from one
    blink of both eyes to the next in seconds (0: none), ``blink_takes`` how long one takes.
    """

    width: int = 1280
    height: int = 720
    fps: float = 30.0
    seconds: float = 0.0  # 0: for ever
    faces: int = 1
    sway: float = 0.35
    roll: float = 15.0
    zoom: float = 0.15
    period: float = 4.0
    noise: float = 0.0
    jpeg: int = 0
    blank: float = 0.0
    every: float = 20.0
    blink: float = 0.0
    blink_takes: float = 0.33


class SyntheticSource(Source):
    """A portrait that moves, turns in the picture and changes its size, the same in every run."""

    def __init__(self, motion: Motion | None = None, name: str = "synthetic:") -> None:
        self.motion = motion or Motion()
        self.name, self.rate = name, self.motion.fps
        self.frames_promised = round(self.motion.seconds * self.motion.fps)
        with resources.as_file(resources.files("posgan_edge.assets") / "portrait.jpg") as path:
            self._portrait = read_image(path)
        self._closed: dict[float, Image] = {0.0: self._portrait}
        self._rng = np.random.default_rng(0)
        self._noise: list[Image] = []
        self._index = 0

    @classmethod
    def from_uri(cls, uri: str) -> SyntheticSource:
        """``synthetic:`` or ``synthetic:?key=value&...`` with the fields of ``Motion``."""
        known = {f.name: type(getattr(Motion(), f.name)) for f in fields(Motion)}
        values: dict[str, Any] = {}
        head, _, query = uri.partition("?")
        if head not in ("synthetic", "synthetic:"):
            raise UsageError(f"{uri}: give synthetic:?key=value&key=value")
        for key, text in parse_qsl(query, keep_blank_values=True):
            if key not in known:
                raise UsageError(f"{uri}: unknown key {key!r}; known: {', '.join(known)}")
            if key in values:
                raise UsageError(f"{uri}: {key} is given twice")
            try:
                values[key] = known[key](text)
            except ValueError as error:
                raise UsageError(f"{uri}: {key}={text!r} is not a number") from error
        for key, value in values.items():
            if not math.isfinite(value):
                raise UsageError(f"{uri}: {key} is not finite")
            low, high = _RANGES.get(key, (0, 1e6))
            if not low <= value <= high:
                raise UsageError(f"{uri}: {key} must be from {low:g} to {high:g}")
        motion = Motion(**values)
        if motion.blink and motion.blink < motion.blink_takes:
            raise UsageError(
                f"{uri}: a blink takes {motion.blink_takes:g} seconds: give blink more, or 0"
            )
        return cls(motion, uri)

    def open(self) -> None:
        self._index = 0

    def read(self, into: Image | None = None) -> Image | None:
        motion = self.motion
        if self.frames_promised and self._index >= self.frames_promised:
            return None
        now = self._index / motion.fps
        self._index += 1
        image = self.memory(into, (motion.height, motion.width, 3))
        if motion.blank and now % motion.every < motion.blank:
            image[:] = _BACKGROUND
        else:
            for number in range(motion.faces):
                self._draw(image, now, number)
        if motion.noise > 0:
            cv2.add(image, self._grain(image), dst=image, dtype=cv2.CV_8U)
        if motion.jpeg:
            coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, motion.jpeg])[1]
            image = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        return image

    def face_matrix(self, now: float, number: int = 0) -> NDArray[np.float64]:
        """(2, 3): portrait pixels (OpenCV's, centres at integers) to frame pixels at a time."""
        motion = self.motion
        columns, rows = self._grid()
        cell = motion.width / columns, motion.height / rows
        phase = 2 * math.pi * (now / motion.period + number / motion.faces)
        size = 0.8 * min(cell) / _PART * (1 + motion.zoom * math.sin(phase / 2))
        face = 0.45 * _PART * size
        x = cell[0] * (number % columns + 0.5) + motion.sway * face * math.sin(phase)
        y = cell[1] * (number // columns + 0.5) + 0.2 * motion.sway * face * math.sin(2 * phase)
        turn = cv2.getRotationMatrix2D(_CENTER, -motion.roll * math.sin(phase), size)
        matrix = np.asarray(turn, np.float64)
        matrix[:, 2] += np.subtract((x, y), _CENTER)
        return matrix

    def closure(self, now: float) -> float:
        """How far the lids are closed at a time in seconds: 0 open, 1 closed."""
        if not self.motion.blink:
            return 0.0
        takes = self.motion.blink_takes
        closing, closed, opening = (part * takes for part in _BLINK)
        since = now % self.motion.blink - (self.motion.blink - takes) / 2
        if since < closing:
            return max(0.0, since / closing)
        return min(1.0, max(0.0, 1 - (since - closing - closed) / opening))

    def _with_lids(self, closure: float) -> Image:
        """The portrait with its lids closed so far, in steps of a sixteenth."""
        closure = round(closure * 16) / 16
        if closure not in self._closed:
            self._closed[closure] = lids_closed(self._portrait, closure)
        return self._closed[closure]

    def _grid(self) -> tuple[int, int]:
        """Columns and rows of the cells that the faces move in."""
        columns = math.ceil(math.sqrt(self.motion.faces))
        return columns, math.ceil(self.motion.faces / columns)

    def _draw(self, image: Image, now: float, number: int) -> None:
        """The portrait over its part of the frame."""
        motion = self.motion
        columns, rows = self._grid()
        left, right = (motion.width * (number % columns + i) // columns for i in (0, 1))
        top, bottom = (motion.height * (number // columns + i) // rows for i in (0, 1))
        matrix = self.face_matrix(now, number) - np.array([[0, 0, left], [0, 0, top]])
        part = image[top:bottom, left:right]
        cv2.warpAffine(
            self._with_lids(self.closure(now)), matrix, part.shape[1::-1], dst=part,
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_BACKGROUND,
        )  # fmt: skip

    def _grain(self, image: Image) -> Image:
        """One of eight pictures of noise, shifted, so that grain costs little."""
        if not self._noise:
            self._noise = [
                self._rng.normal(0, self.motion.noise, image.shape).round().astype(np.int16)
                for _ in range(8)
            ]
        grain = self._noise[self._rng.integers(8)]
        return np.roll(grain, int(self._rng.integers(image.shape[0])), axis=0)


def lids_closed(portrait: Image, closure: float) -> Image:
    """The sample portrait (512, 512, 3) with its eyes closed by ``closure`` (0 open, 1 closed).

    Column by column, the skin above each eye is stretched down to where the lid would be, and
    what lies between the lids is pressed into what is left of the gap.
    """
    rows, columns = np.indices(portrait.shape[:2], np.float32)
    source = rows.copy()
    for upper, lower in _LIDS:
        x = columns[0] + 0.5
        top, bottom = (np.interp(x, *np.transpose(lid)) - 0.5 for lid in (upper, lower))
        inside = (x > upper[0][0]) & (x < upper[-1][0])
        gap = np.where(inside, bottom - top, 0.0)
        lid, skin = top + closure * gap, top - _LID_SKIN
        above = (rows > skin) & (rows <= lid) & inside
        between = (rows > lid) & (rows < bottom) & inside
        stretched = skin + (rows - skin) * ((top - skin) / np.maximum(lid - skin, 1e-3))
        pressed = top + (rows - lid) * (gap / np.maximum(bottom - lid, 1e-3))
        source = np.where(above, stretched, np.where(between, pressed, source))
    return cv2.remap(portrait, columns, source.astype(np.float32), cv2.INTER_CUBIC)
