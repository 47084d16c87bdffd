"""The ARKit blendshape names, and the shape of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

#: The 52 blendshape names of ARKit, in the order of Apple's documentation.
ARKIT_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawLeft", "jawRight", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)  # fmt: skip
#: Names whose value is always 0: a position map holds neither eyeballs nor a tongue.
UNSEEN_NAMES: tuple[str, ...] = (
    *(name for name in ARKIT_NAMES if name.startswith("eyeLook")),
    "tongueOut",
)


@dataclass(frozen=True)
class ExpressionBasis:
    """ICT-FaceKit's face on the UV layout ``ict``, in centimetres (x right, y down, z out).

    ``names`` are the E ARKit names that have a shape (all but ``tongueOut``); ``neutral``
    (3, M, M) float32; ``expression`` (E, 3, M, M) float32, the change at a value of 1, zero off
    the face. ``point_uv`` (P, 2) float32 are the points that a solver reads, and
    ``point_identity`` (K, P, 3) float32 the identity modes there, one standard deviation each;
    ``point_rest`` (P, 3) float32 is what the mean of resting faces differs by from ``neutral``.
    """

    names: tuple[str, ...]
    neutral: NDArray[np.float32]
    expression: NDArray[np.float32]
    point_uv: NDArray[np.float32]
    point_identity: NDArray[np.float32]
    point_rest: NDArray[np.float32]


def encode_differences(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Whole numbers (..., M, M) -> their differences along both axes, which compress better."""
    for axis in (-1, -2):
        values = np.diff(values, axis=axis, prepend=np.int16(0))
    return values


def decode_differences(differences: NDArray[np.int16]) -> NDArray[np.int16]:
    """The exact inverse of ``encode_differences``."""
    for axis in (-2, -1):
        differences = np.cumsum(differences, axis=axis, dtype=np.int16)
    return differences


@lru_cache(maxsize=1)
def load_basis() -> ExpressionBasis:
    """The basis that the package holds (``assets/ict-expressions.npz``)."""
    file = resources.files("posgan_edge.assets") / "ict-expressions.npz"
    with file.open("rb") as stream, np.load(stream) as data:
        return ExpressionBasis(
            names=tuple(data["names"].tolist()),
            neutral=decode_differences(data["neutral"]) * data["neutral_step"],
            expression=decode_differences(data["expression"])
            * data["expression_step"][:, None, None, None],
            point_uv=data["point_uv"],
            point_identity=data["point_identity"] * data["identity_step"][:, None, None],
            point_rest=data["point_rest"].astype(np.float32),
        )
