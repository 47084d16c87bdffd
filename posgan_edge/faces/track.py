"""One face over time: where it is expected next, and its filters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.smoothing import FaceSmoother
from posgan_edge.faces.values import Face
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.values import FaceBox

#: Shorter intervals than this, in seconds, are not used to measure a face's speed.
_LEAST_SECONDS = 1e-3


@dataclass
class Track:
    """One face over time: its last unfiltered state, its filter, and its expression if that is
    wanted. With ``dense`` False, faces with an expression have no map."""

    id: int
    face: Face
    smoother: FaceSmoother | None
    timestamp: float
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # pixels a second
    misses: int = 0
    expression: ExpressionTrack | None = None
    dense: bool = True

    def crop(self, timestamp: float) -> Crop:
        """The crop where the face is expected, turned so that the head is upright in it."""
        crop = Crop.from_landmarks(self.face.landmarks, self.face.pose.in_plane)
        x, y = self._moved(timestamp)
        return Crop(crop.center_x + x, crop.center_y + y, crop.side, crop.angle)

    def box(self, timestamp: float) -> FaceBox:
        """The expected landmark box."""
        x, y = self._moved(timestamp)
        return replace(self.face.box, x=self.face.box.x + x, y=self.face.box.y + y)

    def _moved(self, timestamp: float) -> NDArray[np.float64]:
        return self.velocity * min(0.1, max(0.0, timestamp - self.timestamp))

    def take(self, face: Face, timestamp: float) -> Face:
        """Continues the track with a face that was found. Returns it filtered, with the track's
        id."""
        seconds = timestamp - self.timestamp
        if seconds >= _LEAST_SECONDS:
            moved = np.subtract(face.box.center, self.face.box.center) / seconds
            self.velocity = 0.5 * (self.velocity + moved)
        self.face, self.timestamp, self.misses = face, timestamp, 0
        shown = self.smoother(face, timestamp) if self.smoother is not None else face
        if self.expression is None:
            return shown if shown.id == self.id else replace(shown, id=self.id)
        values = self.expression.follow(face, seconds if seconds > 0 else 1 / 30)
        position_map = shown.position_map if self.dense else None
        return replace(shown, id=self.id, expression=values, position_map=position_map)
