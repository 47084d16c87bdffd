"""Contact sheets: pairs of pictures, ground truth left and the generator's landmarks right."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from posgan_edge.arrays import FloatArray, Image
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.scoring import Prediction
from posgan_edge.geometry.axes import opencv_matrix
from posgan_edge.geometry.crop import BOX_SCALE, Crop
from posgan_edge.geometry.layout import CLOSED_REGIONS, REGIONS
from posgan_edge.geometry.values import FaceBox

#: Faces of a sheet, pairs in a row, and the side of one picture.
FACES, COLUMNS, SIDE = 48, 6, 144
_GREEN, _ORANGE = (110, 220, 90), (60, 150, 255)
_SHIFT = 4


def contact_sheet(pairs: Sequence[tuple[LabelledFace, Prediction, float]], label_set: str) -> Image:
    """Returns one picture (H, W, 3) uint8 BGR of pairs (face, prediction, NME), in their order."""
    rows = [
        np.hstack([_pair(*pair, label_set) for pair in pairs[i : i + COLUMNS]])
        for i in range(0, len(pairs), COLUMNS)
    ]
    width = max((row.shape[1] for row in rows), default=SIDE)
    padded = [cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows]
    return np.vstack(padded) if padded else np.zeros((SIDE, SIDE, 3), np.uint8)


def _pair(face: LabelledFace, prediction: Prediction, error: float, label_set: str) -> Image:
    truth = face.labels(label_set)
    crop = Crop.from_box(FaceBox.around(face.original), 1.15 * BOX_SCALE)
    left = _drawn(face, crop, truth, _GREEN)
    right = _drawn(face, crop, prediction.landmarks, _ORANGE)
    name = face.name.removeprefix("image")
    for picture, text in ((left, name), (right, f"{error:.2f}")):
        for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                picture, text, (4, SIDE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, thickness,
                cv2.LINE_AA,
            )  # fmt: skip
    return cv2.copyMakeBorder(np.hstack([left, right]), 1, 1, 1, 1, cv2.BORDER_CONSTANT)


def _drawn(face: LabelledFace, crop: Crop, points: FloatArray, color: tuple[int, ...]) -> Image:
    matrix = opencv_matrix(crop.matrix, source=SIDE)
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(face.image(), matrix, (SIDE, SIDE), flags=flags)
    pixels = crop.to_crop(points)[:, :2] * SIDE - 0.5
    fixed = np.round(pixels * (1 << _SHIFT)).astype(np.int32)
    for name, indices in REGIONS.items():
        closed = name in CLOSED_REGIONS
        cv2.polylines(picture, [fixed[list(indices)]], closed, color, 1, cv2.LINE_AA, _SHIFT)
    return picture


def data_uri(picture: Image) -> str:
    """Returns a picture (H, W, 3) uint8 BGR as a data URI with a JPEG."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
