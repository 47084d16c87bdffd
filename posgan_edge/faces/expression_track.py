"""Expression over time, measured from the person's own resting face, which is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray
from posgan_edge.errors import BadInput
from posgan_edge.faces.expression import ExpressionSolver, expression_solver, named
from posgan_edge.faces.expression_basis import ARKIT_NAMES
from posgan_edge.faces.values import Face

#: Seconds after which the first and the last level of knowledge about a person are reached.
_FIRST_STEP, _LAST_STEP = 0.3, 5.0
#: Seconds in which the person's resting face follows what the expressions do not explain.
_FOLLOW = 4.0
#: Values about this small that last are taken for the face at rest.
_RESTING = 0.15
#: Cut-off of the values' filter in Hz, at rest and for each unit a second.
_CUTOFF = (2.0, 6.0)


class ExpressionTrack:
    """The blendshapes of one person's face from frame to frame.

    The first frame is read as of a person never seen. In the next seconds the person's resting face
    is learned: it takes in what no expression explains, and small values that last. Large values
    that last, such as a long smile, remain values.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, ExpressionTrack, blendshapes, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> track = ExpressionTrack()
    >>> values = [blendshapes(face, track, 1 / 30) for _ in range(3)]
    >>> len(values[-1])
    52
    """

    def __init__(self, solver: ExpressionSolver | None = None, smooth: bool = True) -> None:
        smooth = arrays.flag(smooth, "smooth")
        if solver is None:
            solver = expression_solver()
        self._solver = arrays.instance(solver, ExpressionSolver, "solver")
        self._neutral: NDArray[np.float32] | None = None
        self._last: NDArray[np.float32] | None = None
        self._unknowns: NDArray[np.float64] | None = None
        self._values: NDArray[np.float64] | None = None
        self._seen, self._smooth = 0.0, smooth

    def update(self, reading: FloatArray, seconds: float) -> NDArray[np.float64]:
        """(52,) values in the order of ARKIT_NAMES of the next frame's reading (see
        ``ExpressionSolver.read``), ``seconds`` after the one before; all NaN for a reading that is
        not finite. Raises BadInput for a reading of another shape, and for a time below 1e-6 s."""
        solver = self._solver
        seconds = arrays.number(seconds, "seconds", 1e-6)
        shape = (solver.reading_size,)
        if (
            not isinstance(reading, np.ndarray)
            or reading.dtype.kind != "f"
            or (reading.shape != shape)
        ):
            raise BadInput(f"reading is {arrays.described(reading)}: give floats {shape}")
        reading = np.asarray(reading, np.float32)
        if not np.isfinite(reading).all():
            return np.full(len(ARKIT_NAMES), np.nan)
        self._last = reading
        own = reading if self._neutral is None else reading - self._neutral
        self._unknowns = solver.solve(own, self._level, self._unknowns)
        self._learn(reading, self._unknowns, seconds)
        return self._filtered(solver.named(self._unknowns), seconds)

    def follow(self, face: Face, seconds: float) -> NDArray[np.float64] | None:
        """``update`` with the map of a face; None if the map is of another UV layout than
        ``ict`` or not finite. Raises BadInput if the face has no position map."""
        if arrays.instance(face, Face, "face").dense_map.layout.name != "ict":
            return None
        values = self.update(self._solver.read(face.dense_map, face.crop, face.pose), seconds)
        return values if np.isfinite(values).all() else None

    def set_neutral(self) -> None:
        """Takes the face of the last frame for the person at rest, from the next frame on.

        Raises BadInput before the first frame.
        """
        if self._last is None:
            raise BadInput("no face was seen yet: the resting face cannot be set")
        self._neutral, self._seen = self._last, _LAST_STEP
        self._unknowns = np.zeros(len(self._solver.names))

    @property
    def _level(self) -> int:
        if self._seen < _FIRST_STEP:
            return 0
        steps = self._solver.levels - 1
        share = math.log(self._seen / _FIRST_STEP) / math.log(_LAST_STEP / _FIRST_STEP)
        return min(steps, 1 + int(share * (steps - 1) + 1e-9))

    def _learn(
        self, reading: NDArray[np.float32], unknowns: NDArray[np.float64], seconds: float
    ) -> None:
        lasting = unknowns * (1 - np.exp(-((unknowns / _RESTING) ** 2)))
        resting = reading - self._solver.change(lasting)
        if self._neutral is None:
            # Of a single frame, what small values say is as likely as not.
            self._neutral = reading - self._solver.change(unknowns)
        else:
            share = min(1.0, seconds / min(_FOLLOW, self._seen + 1 / 30))
            self._neutral = self._neutral + np.float32(share) * (resting - self._neutral)
        self._seen += seconds

    def _filtered(self, values: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
        if self._values is None or not self._smooth:
            self._values = values
            return values
        change = values - self._values
        cutoff = _CUTOFF[0] + _CUTOFF[1] * np.abs(change) / seconds
        self._values = self._values + change / (1 + 1 / (2 * math.pi * cutoff * seconds))
        return self._values


def blendshapes(
    face: Face, track: ExpressionTrack | None = None, seconds: float = 1 / 30
) -> Mapping[str, float] | None:
    """The 52 ARKit blendshapes of a face, each in [0, 1]; read-only.

    ``track`` is the person's, ``seconds`` what has passed since its last frame; without one the
    face is read as ``Face.blendshapes`` does. ``tongueOut`` and ``eyeLook...`` are always 0, as a
    position map holds neither. None if the map is of another UV layout than ``ict`` or not
    finite. Raises BadInput if the face has no position map.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, blendshapes, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> 0 <= blendshapes(face)["jawOpen"] <= 1
    True
    """
    arrays.instance(face, Face, "face")
    if track is None:
        return face.blendshapes
    values = arrays.instance(track, ExpressionTrack, "track").follow(face, seconds)
    return None if values is None else named(values)
