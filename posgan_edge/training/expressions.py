"""Makes ``assets/ict-expressions.npz`` of ICT-FaceKit's shapes on the UV layout ``ict``.

``python -m posgan_edge.training.expressions ICT_NPZ PACK OUTPUT``. ICT_NPZ holds ``neutral``
(M, M, 3), ``identity`` (K, M, M, 3), ``expression`` (E, M, M, 3) in centimetres (x right, y down,
z towards the camera) and ``expression_names`` as ICT-FaceKit spells them. PACK is a folder with a
position-map pack that holds the openness of eyes and mouths. Its frontal faces at rest define the
resting face of the maps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import check_array, read_arrays
from posgan_edge.errors import BadInput
from posgan_edge.faces.expression import mean_face_to_basis, without_pose
from posgan_edge.faces.expression_basis import ARKIT_NAMES, encode_differences
from posgan_edge.files import replaced
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.pose import Pose, fit_robust
from posgan_edge.geometry.sampling import sample_map

#: Quantisation levels of a shape's largest movement: 3.5 cm is stored to 0.04 mm.
_LEVELS = 511
_NEUTRAL_STEP = np.float32(1e-3)  # cm
_IDENTITY_LEVELS = 127
#: Limits of a resting face: largest yaw in degrees, largest mouth openness, range of eye openness.
_FRONTAL, _CLOSED_MOUTH, _OPEN_EYES = 40.0, 0.06, (0.2, 0.36)
#: Distance of solver points in pixels, in each direction.
_POINT_STEP = 4


def arkit_name(name: str) -> str:
    """Returns ARKit's name for a name of ICT-FaceKit: ``eyeBlink_L`` -> ``eyeBlinkLeft``.

    ARKit has one shape where ICT-FaceKit has two halves (``browInnerUp_L``, ``cheekPuff_R``); both
    get the name of that shape.
    """
    stem, _, side = name.partition("_")
    if not side or stem in ARKIT_NAMES:
        return stem
    return stem + {"L": "Left", "R": "Right"}[side]


def solver_points(layout: UvLayout, step: int = _POINT_STEP) -> NDArray[np.float32]:
    """Returns UV points (P, 2) float32.

    Each is the common corner of 2 x 2 pixels of the face, so that reading it gives their mean.
    """
    mask, size = layout.mask, layout.resolution
    inside = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    row, column = np.nonzero(inside)
    # The same points on both sides: column c mirrors to size - 2 - c.
    offset = ((size - 2) // 2) % step
    chosen = (row % step == 0) & (column % step == offset)
    uv: NDArray[np.float32] = ((np.column_stack([column, row])[chosen] + 1) / size).astype(
        np.float32
    )
    return uv


def resting_points(
    pack: Path, layout: UvLayout, neutral: NDArray[np.float32], uv: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns the mean positions (P, 3) in cm of the points ``uv`` (P, 2) on the pack's resting
    faces. Raises BadInput if the pack has no such faces.
    """
    basis = read_arrays(pack / "basis.npz", ("mean", "components"))
    size = len(np.atleast_1d(basis["mean"]))
    check_array(basis["mean"], f"{pack}/basis.npz: mean", (None, size, 3))
    check_array(basis["components"], f"{pack}/basis.npz: components", (None, size, size, 3))
    mean = np.moveaxis(basis["mean"], -1, 0).astype(np.float32)
    components = np.moveaxis(basis["components"], -1, 1).astype(np.float32)
    read = np.concatenate([uv, layout.mean_uv])
    mean, components = sample_map(mean, read), sample_map(components, read)
    to_basis = mean_face_to_basis(layout, neutral)
    total, count = np.zeros((len(uv), 3)), 0
    for file in sorted(pack.glob("train-*.npz")):
        data = read_arrays(file, ("yaw", "codes"), ("eyes", "mouth"))
        if not {"eyes", "mouth"} <= data.keys():
            raise BadInput(f"{file}: does not say how open eyes and mouths are")
        faces, eyes = len(np.atleast_1d(data["yaw"])), data["eyes"]
        for name, shape in (
            ("yaw", (faces,)), ("mouth", (faces,)), ("eyes", (faces, 2)),
            ("codes", (faces, len(components))),
        ):  # fmt: skip
            check_array(data[name], f"{file}: {name}", shape)
        rest = (np.abs(data["yaw"]) < _FRONTAL) & (data["mouth"] < _CLOSED_MOUTH)
        rest &= (eyes.min(axis=1) > _OPEN_EYES[0]) & (eyes.max(axis=1) < _OPEN_EYES[1])
        codes = data["codes"][rest]
        for code in codes:
            points = mean + np.tensordot(code, components, 1)
            scale, turn, shift = fit_robust(layout.mean_points, points[len(uv) :] * Y_UP, 4)
            pose = Pose(0.0, 0.0, 0.0, turn, scale, shift)
            total += without_pose(points[: len(uv)], pose, *to_basis)
            count += 1
    if not count:
        raise BadInput(f"{pack}: has no frontal faces at rest")
    return np.asarray(total / count, np.float32)


def build(source: Path, pack: Path, output: Path) -> None:
    """Writes the reduced basis. Raises BadInput for a source in another format."""
    layout = load_layout("ict")
    shapes = ("neutral", "identity", "expression")
    data = read_arrays(source, (*shapes, "expression_names"))
    size = len(np.atleast_1d(data["neutral"]))
    for name in shapes:
        lead = () if name == "neutral" else (None,)
        check_array(data[name], f"{source}: {name}", (*lead, size, size, 3))
    if data["expression_names"].shape != data["expression"].shape[:1]:
        raise BadInput(f"{source}: its expressions and their names differ in number")
    neutral = np.moveaxis(data["neutral"], -1, 0).astype(np.float32)
    identity = np.moveaxis(data["identity"], -1, 1).astype(np.float32)
    given = dict(zip(map(str, data["expression_names"]), data["expression"], strict=True))
    if neutral.shape[-2:] != layout.mask.shape:
        raise BadInput(f"{source}: maps of {neutral.shape[-2:]}, expected {layout.mask.shape}")
    merged: dict[str, NDArray[np.float32]] = {}
    for name, delta in given.items():
        shape = np.moveaxis(delta, -1, 0).astype(np.float32) * layout.mask
        merged[arkit_name(name)] = merged.get(arkit_name(name), np.float32(0)) + shape
    names = [name for name in ARKIT_NAMES if name in merged]
    if len(names) != len(merged) or len(names) != len(ARKIT_NAMES) - 1:
        raise BadInput(f"{source}: its expressions are not ICT-FaceKit's 53")
    expression = np.stack([merged[name] for name in names])
    step = np.abs(expression).max(axis=(1, 2, 3)) / _LEVELS
    uv = solver_points(layout)
    rest = resting_points(pack, layout, neutral, uv)
    at_points = sample_map(identity, uv)
    identity_step = np.abs(at_points).max(axis=(1, 2)) / _IDENTITY_LEVELS
    with replaced(output) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            names=np.array(names),
            neutral=encode_differences(np.round(neutral / _NEUTRAL_STEP).astype(np.int16)),
            neutral_step=_NEUTRAL_STEP,
            expression=encode_differences(_rounded(expression, step).astype(np.int16)),
            expression_step=step,
            point_uv=uv,
            point_identity=_rounded(at_points, identity_step).astype(np.int8),
            identity_step=identity_step,
            point_rest=(rest - sample_map(neutral, uv)).astype(np.float16),
        )


def _rounded(values: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (N, ...) in units of ``step`` (N,), rounded to whole numbers."""
    scaled = values / step.reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(np.round(scaled), np.float32)


if __name__ == "__main__":
    build(*(Path(argument) for argument in sys.argv[1:4]))
