"""Facial expression as ARKit blendshapes, from the points of a position map.

The head's pose is removed from the points. What is left is modelled as the sum of ICT-FaceKit's
expressions, its identity modes, a remaining error of the pose, and noise. Identity and pose are
marginalised (they are Gaussian), so that for each face a least-squares problem with E unknowns, the
values of the expressions in [0, 1], has to be solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray
from posgan_edge.faces.expression_basis import ARKIT_NAMES, UNSEEN_NAMES, load_basis
from posgan_edge.faces.gaps import GAP_LANDMARKS, GAPS, gap_ratios, picture_ratios, width
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.pose import Pose, fit_similarity
from posgan_edge.geometry.sampling import sample_map
from posgan_edge.geometry.values import PositionMap

#: Standard deviations of the errors of a point, of the gap between the lids of each eye and of
#: that between the lips, in cm: of a face never seen, and of a person well known. Few points tell
#: of the gaps, and who somebody is moves them as much as an expression does: where the person is
#: not known the gaps themselves are followed closely.
_NOISE = ((0.2, 0.01, 0.01, 0.02), (0.04, 0.06, 0.06, 0.3))
#: How much wider the eyes and the lips of a person never seen are taken to rest than the mean
#: face's, in cm: eyes wider, lips tighter than most, so that values tell open
#: eyes and closed lips apart too and are not cut off at 0 (see benchmarks/blendshapes.py).
_WIDER = (0.2, 0.2, -0.05)
#: Standard deviation that a value is expected to have, and that of shapes which move lids or lips
#: a little beside doing something else while the person is not known: a gap alone is then told by
#: the shapes that stand for it.
_SPREAD, _SIDE_SPREAD = 0.6, 0.02
#: Shapes that differ between resting faces by more than the identity modes say, and by how much
#: (standard deviation). In a single picture they are taken for the person's own.
_OWN_NAMES, _OWN_SPREAD = ("jawForward",), 0.6
_MAIN_NAMES = ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen")
_SIDE_STARTS = (
    "eyeSquint", "eyeWide", "cheekSquint", "noseSneer", "mouthFunnel", "mouthShrug", "mouthRoll",
    "mouthLowerDown", "mouthUpperUp", "jawForward",
)  # fmt: skip
#: Share of the identity's variance that is left, from a face never seen to one well known.
_UNKNOWN = (1.0, 0.3, 0.1, 0.03, 0.01)
_MOST_STEPS = 12


@dataclass(frozen=True)
class _Problem:
    """The least-squares problem for one level of knowledge about a person: ``gram`` (E, E) float64,
    and ``projection`` (E, R) float32, which gives the right side for a reading."""

    gram: NDArray[np.float64]
    projection: NDArray[np.float32]


class ExpressionSolver:
    """Computes blendshape values of faces on the UV layout ``ict``. It keeps no state of a face.

    A reading is an (R,) float32 array in cm: the positions of a map's points, without the head's
    pose, minus those of a resting face; and the same for the gaps between lids and lips.

    >>> solver = ExpressionSolver()                                        # doctest: +SKIP
    >>> reading = solver.read(face.dense_map, face.crop, face.pose)        # doctest: +SKIP
    >>> dict(zip(ARKIT_NAMES, solver.values(reading)))["jawOpen"]          # doctest: +SKIP
    """

    def __init__(self) -> None:
        basis, layout = load_basis(), load_layout("ict")
        seen = [i for i, name in enumerate(basis.names) if name not in UNSEEN_NAMES]
        self.names = tuple(basis.names[i] for i in seen)
        self._places = np.array([ARKIT_NAMES.index(name) for name in self.names])
        self._count = len(basis.point_uv)
        corners = layout.landmark_uv[list(GAP_LANDMARKS)]
        self._uv = np.concatenate([basis.point_uv, corners])
        self._rest = sample_map(basis.neutral, basis.point_uv) + basis.point_rest
        deltas = sample_map(basis.expression[seen], self._uv)
        # Lips can only be closed as far as the jaw is open. The unknowns are the jaw's
        # opening with the lips apart and that with the lips together, each above zero.
        self._jaw, self._close = self.names.index("jawOpen"), self.names.index("mouthClose")
        deltas[self._close] += deltas[self._jaw]
        lids = sample_map(basis.neutral, corners)
        self._widths = np.array([width(lids, ends) for _, ends in GAPS])
        self._gaps = self._widths * gap_ratios(lids)
        moved = self._widths * gap_ratios(lids + deltas[:, self._count :]) - self._gaps
        points = deltas[:, : self._count].reshape(len(seen), -1)
        self._deltas = np.concatenate([points, moved], axis=1).astype(np.float32)
        self._to_basis = mean_face_to_basis(layout, basis.neutral)
        self._problems = _problems(self._deltas, basis.point_identity, self._rest, self.names)

    @property
    def levels(self) -> int:
        """The number of levels of knowledge about a person; at level 0 nothing is known."""
        return len(self._problems)

    def read(
        self, position_map: PositionMap, crop: Crop, pose: Pose, flat: bool = False
    ) -> NDArray[np.float32]:
        """The reading (R,) of a map; ``pose`` is that of the face in the frame.

        With ``flat`` the gaps are those in the picture. They are less exact where the head nods,
        and do not suffer from errors in depth.
        """
        points = crop.to_frame(sample_map(position_map.xyz, self._uv))
        free = without_pose(points, pose, *self._to_basis)
        lids = points[self._count :, :2] if flat else free[self._count :]
        gaps = self._widths * (picture_ratios(lids) if flat else gap_ratios(lids)) - self._gaps
        off = free[: self._count] - self._rest
        features: NDArray[np.float32] = np.concatenate([off.ravel(), gaps]).astype(np.float32)
        return features

    def values(self, reading: FloatArray) -> NDArray[np.float64]:
        """(52,) in the order of ARKIT_NAMES, of a reading (R,) of an unknown person."""
        wider = np.zeros(self._deltas.shape[1], np.float32)
        wider[-len(GAPS) :] = _WIDER
        return self.named(self.solve(np.asarray(reading, np.float32) - wider))

    @property
    def reading_size(self) -> int:
        """The length of what ``read`` returns."""
        return int(self._problems[0].projection.shape[1])

    def solve(
        self, reading: FloatArray, level: int = 0, start: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The unknowns (E,) of a reading (R,), less the person's own where that is known.

        ``start`` are those of the frame before, which saves steps. All NaN where the reading is
        not finite.
        """
        problem = self._problems[level]
        right = (problem.projection @ np.asarray(reading, np.float32)).astype(np.float64)
        if not np.isfinite(right).all():
            return np.full(len(right), np.nan)
        return solve_bounded(problem.gram, right, start)

    def change(self, unknowns: NDArray[np.float64]) -> NDArray[np.float32]:
        """The change of a reading by the unknowns (E,): (R,) in cm."""
        return np.asarray(unknowns.astype(np.float32) @ self._deltas, np.float32)

    def named(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unknowns (E,) -> values (52,) in the order of ARKIT_NAMES."""
        values = np.zeros(len(ARKIT_NAMES))
        seen = unknowns.copy()
        seen[self._jaw] = min(1.0, seen[self._jaw] + seen[self._close])
        values[self._places] = seen
        return values


@lru_cache(maxsize=1)
def expression_solver() -> ExpressionSolver:
    """The solver. It is made once in a process, in about 0.1 seconds."""
    return ExpressionSolver()


def picture_values(position_map: PositionMap, crop: Crop, pose: Pose) -> NDArray[np.float64] | None:
    """(52,) in the order of ARKIT_NAMES, of a single picture; None if the map is of another
    UV layout than ``ict`` or not finite."""
    if position_map.layout.name != "ict":
        return None
    solver = expression_solver()
    values = solver.values(solver.read(position_map, crop, pose, flat=True))
    return values if np.isfinite(values).all() else None


def named(values: FloatArray) -> Mapping[str, float]:
    """Values (52,) by their ARKit names; read-only."""
    return MappingProxyType(dict(zip(ARKIT_NAMES, values.tolist(), strict=True)))


def solve_bounded(
    gram: NDArray[np.float64],
    right: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The x (E,) in [0, 1] with the least ``x @ gram @ x / 2 - right @ x``.

    An active-set method: unknowns at a bound are fixed, the others are solved for. Then those that
    left the bounds are fixed, and those whose gradient points inside are freed. ``gram``
    must be positive definite.
    """
    x = np.linalg.solve(gram, right) if start is None else start
    low, high = x <= 0, x >= 1
    for _ in range(_MOST_STEPS):
        free = np.flatnonzero(~(low | high))
        x = high.astype(np.float64)
        inner = gram[np.ix_(free, free)]
        x[free] = np.linalg.solve(inner, right[free] - gram[free] @ x)
        slope = gram @ x - right
        next_low = (x < 0) | (low & (slope > 0))
        next_high = (x > 1) | (high & (slope < 0))
        if (next_low == low).all() and (next_high == high).all():
            break
        low, high = next_low, next_high
    return np.clip(x, 0.0, 1.0)


def mean_face_to_basis(
    layout: UvLayout, neutral: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) and (3,): from the layout's mean face (upright, y up, unit size) to the axes of a
    ``neutral`` map (3, M, M) in cm."""
    target = sample_map(neutral, layout.mean_uv)
    scale, rotation, shift = fit_similarity(layout.mean_points, target * Y_UP)
    return scale * Y_UP[:, None] * rotation, shift * Y_UP


def without_pose(
    points: FloatArray, pose: Pose, turn: FloatArray, shift: FloatArray
) -> NDArray[np.float32]:
    """Points (..., 3) in frame pixels -> their positions on the upright face, in cm; ``turn`` and
    ``shift`` are those of ``mean_face_to_basis``."""
    matrix = turn @ (pose.rotation.T * Y_UP) / pose.scale
    offset = shift - turn @ (pose.rotation.T @ pose.translation) / pose.scale
    return np.asarray(points @ matrix.T.astype(np.float32) + offset, np.float32)


def _problems(
    deltas: NDArray[np.float32],
    identity: NDArray[np.float32],
    rest: NDArray[np.float32],
    names: tuple[str, ...],
) -> tuple[_Problem, ...]:
    """The problem at each share of ``_UNKNOWN``; ``deltas`` (E, R), ``identity`` (K, P, 3), the
    points ``rest`` (P, 3)."""
    padding = ((0, 0), (0, len(GAPS)))
    # How open the eyes are at rest is not part of the identity.
    identity = np.pad(identity.reshape(len(identity), -1), padding)
    own = [_OWN_SPREAD * deltas[names.index(name)] for name in _OWN_NAMES]
    identity = np.concatenate([identity, own])
    changes = np.pad(_pose_changes(rest), padding)
    known = np.linspace(0, 1, len(_UNKNOWN))
    return tuple(
        _problem(deltas, identity, changes, unknown, share, names)
        for unknown, share in zip(_UNKNOWN, known, strict=True)
    )


def _problem(
    deltas: NDArray[np.float32],
    identity: NDArray[np.float32],
    changes: NDArray[np.float64],
    unknown: float,
    known: float,
    names: tuple[str, ...],
) -> _Problem:
    first, last = (np.array(noise) for noise in _NOISE)
    point, *gaps = first * (last / first) ** known
    weight = np.append(np.full(deltas.shape[1] - len(GAPS), 1 / point), 1 / np.array(gaps))
    pose, _ = np.linalg.qr((changes * weight).T)
    expression, identity = (deltas * weight).T, (identity * weight).T
    expression = expression - pose @ (pose.T @ expression)
    identity = identity - pose @ (pose.T @ identity)
    inner = identity.T @ identity + np.eye(identity.shape[1]) / unknown
    shared = identity.T @ expression
    part = np.linalg.solve(inner, shared)
    spreads = np.array([_spread(name, known) for name in names])
    gram = expression.T @ expression - shared.T @ part + np.diag(1 / spreads**2)
    projection = (expression - identity @ part).T
    # The effect of the pose is removed here too, once and not in every frame.
    projection = (projection - (projection @ pose) @ pose.T) * weight
    return _Problem(gram, np.ascontiguousarray(projection, np.float32))


def _spread(name: str, known: float) -> float:
    if name in _MAIN_NAMES:
        return 1.0
    if name.startswith(_SIDE_STARTS):
        return float(_SIDE_SPREAD * (_SPREAD / _SIDE_SPREAD) ** known)
    return _SPREAD


def _pose_changes(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(7, 3 P): small moves along and turns about each axis, and a small change of size."""
    centered = points.astype(np.float64) - points.mean(axis=0)
    moves = [np.broadcast_to(axis, centered.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, centered) for axis in np.eye(3)]
    rows: NDArray[np.float64] = np.stack([*moves, *turns, centered]).reshape(7, -1)
    return rows
