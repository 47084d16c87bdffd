"""Chooses the landmark set ``300w`` of the UV layout ``ict``: where people put the 68 points.

    python benchmarks/landmark_sets.py PACK [--model edge] [--faces 3000] [--write] [--json OUT]

The training labels follow the convention of AFLW2000-3D (the set ``aflw``). People who mark photos
as 300-W did put points elsewhere, by a constant offset for each point. The witness is MediaPipe
FaceMesh (refined; the table of ``peer_methods.py``) on faces of the training pack. For each of the
51 inner points the place on the map is searched that the model's maps put nearest to FaceMesh's
point, on faces up to ``YAW`` degrees of the split ``train``, the same on both sides of the face.
The six points of each eye and the inner lips are then moved together, so that openness in the
picture agrees too (see ``_Parts``). The jaw keeps its points, because FaceMesh's do not follow the
outline. Printed and recorded are the offsets and spreads that remain on the split ``val``.

``--write`` puts the set into ``posgan_edge/assets/layout-ict.npz``. PACK is a position-map pack
with openness of eyes and mouths. Photos that people marked are not read. It takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from peer_methods import FACEMESH_68

from posgan_edge.cli import report_error
from posgan_edge.cli.progress import reporting
from posgan_edge.engines import load_engine
from posgan_edge.errors import BadInput, PosganError, needing
from posgan_edge.evaluation.expression import PARTS, pearson
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.files import check_writable, replaced
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.sampling import bilinear_taps
from posgan_edge.training.datasets import PackMaps

ASSET = Path(__file__).parents[1] / "posgan_edge" / "assets" / "layout-ict.npz"
#: Largest yaw of the labels in degrees.
YAW = 35.0
#: Faces where the two networks differ by more than this in the median, in percent of the face,
#: are left out: one of them is wrong about the whole face.
AGREE = 4.0
#: Where points are searched at first, in pixels of the map to the side, and up and down.
REACH = (4, 9)
STEPS = (0.5, 0.25, 0.1)
#: What openness weighs against distance in percent of the face: a correlation of 1, and a mean
#: absolute difference of the ratio of 1.
CORRELATION, RATIO = 12.0, 10.0
#: The point on the other side of the face.
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1),
    *range(64, 59, -1), 67, 66, 65,
])  # fmt: skip
#: Pairs of upper and lower points, and corners, of each ratio; as ``geometry.landmarks.openness``.
_EYES = ((((37, 41), (38, 40)), (36, 39)), (((43, 47), (44, 46)), (42, 45)))
_MOUTH = ((((61, 67), (62, 66), (63, 65)), (60, 64)),)
_MOVES = [(u, v) for u in (-1, 0, 1) for v in (-1, 0, 1) if u or v]


@dataclass(frozen=True)
class Faces:
    """Faces that both networks saw.

    ``maps`` (n, 2, M * M): x and y; ``seen`` (n, 68, 2): FaceMesh's points, both in sides of the
    crop; ``sizes`` (n,); ``eyes`` (n, 2) and ``mouth`` (n, 1): the labels' openness.
    """

    maps: NDArray[np.float32]
    seen: NDArray[np.float32]
    sizes: NDArray[np.float32]
    eyes: NDArray[np.float32]
    mouth: NDArray[np.float32]

    def at(self, uv: NDArray[Any], points: Sequence[int] | slice = slice(None)) -> NDArray[Any]:
        """Returns the places (n, P, 2) of the chosen points, and those of ``uv`` (68, 2)."""
        index, weight = bilinear_taps(uv[points], round(self.maps.shape[-1] ** 0.5))
        return np.asarray(np.einsum("ncpk,pk->npc", self.maps[:, :, index], weight))

    def errors(self, uv: NDArray[Any], points: Sequence[int] | slice = slice(None)) -> NDArray[Any]:
        """Returns the offsets (n, P, 2) from FaceMesh's points in percent of the face."""
        apart = self.at(uv, points) - self.seen[:, points]
        return np.asarray(apart * (100 / self.sizes[:, None, None]))

    def those(self, chosen: NDArray[Any] | slice) -> Faces:
        return Faces(*(values[chosen] for values in vars(self).values()))


class Witness:
    """MediaPipe FaceMesh on a crop of the pack, with a border round it."""

    def __init__(self) -> None:
        with needing("mediapipe", "FaceMesh", "detect"):
            from mediapipe.python.solutions.face_mesh import FaceMesh
        self._mesh = FaceMesh(
            static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
        )

    def find(self, image: NDArray[Any]) -> NDArray[np.float32] | None:
        """Returns the points (68, 2) in sides of the crop; None if no face is found."""
        side = image.shape[0]
        border = side // 2
        padded = cv2.copyMakeBorder(image, *(border,) * 4, cv2.BORDER_REPLICATE)
        padded = cv2.resize(padded, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        found = self._mesh.process(cv2.cvtColor(padded, cv2.COLOR_BGR2RGB)).multi_face_landmarks
        if not found:
            return None
        points = [(found[0].landmark[i].x, found[0].landmark[i].y) for i in FACEMESH_68]
        whole = 1 + 2 * border / side
        return np.array(points, np.float32) * whole - border / side

    def close(self) -> None:
        self._mesh.close()


def gather(pack: Path, split: str, count: int, model: str, report: Any) -> Faces:
    """Returns up to ``count`` faces of a split, drawn at random."""
    source, layout = PackMaps(pack, split), load_layout("ict")
    if source.layout != layout.name or source.eyes is None or source.mouth is None:
        raise BadInput(f"{pack}: needs maps of UV layout 'ict', and openness of eyes and mouths")
    near = np.flatnonzero(np.abs(source.yaw) <= YAW)
    drawn = np.random.default_rng(1).permutation(near)[:count]
    rows: list[tuple[Any, ...]] = []
    witness, engine = Witness(), load_engine(model, threads=1)
    try:
        for number, index in enumerate(drawn):
            image = source.image(index)
            seen = witness.find(image)
            if seen is not None:
                side = image.shape[0]
                crop = Crop(side / 2, side / 2, side)
                (found,) = engine.infer(extract_crop(image, crop, engine.info.input_size)[None])
                size = np.sqrt(np.ptp(layout.landmarks(found)[:, :2], axis=0).prod())
                xy = found[:2].reshape(2, -1)
                rows.append((xy, seen, size, source.eyes[index], source.mouth[index : index + 1]))
            report(split, number + 1, len(drawn))
    finally:
        witness.close()
        engine.close()
    if not rows:
        raise BadInput(f"{pack}: no face of the split {split} was found")
    return Faces(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))


def moved(uv: NDArray[Any], points: Sequence[int], du: float, dv: float) -> NDArray[Any]:
    """Returns ``uv`` with points moved by pixels of a map of 128, and their partners the other way
    round; points on the middle line stay on it."""
    result = uv.copy()
    for point in points:
        other = MIRROR[point]
        step = np.array([0.0 if other == point else du, dv]) / 128
        result[point] = uv[point] + step
        result[other] = (1 - result[point, 0], result[point, 1])
    return result


def on_face(layout: UvLayout, uv: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns (68,) whether each place is one of the face."""
    column, row = np.clip((uv * layout.resolution).astype(int), 0, layout.resolution - 1).T
    return np.asarray(layout.mask[row, column])


def nearest(faces: Faces, layout: UvLayout) -> NDArray[Any]:
    """Returns the places (68, 2) of least mean distance for each inner point by itself."""
    start = layout.landmark_uv.astype(np.float64)
    halves = [p for p in PARTS["inner"] if p <= MIRROR[p]]
    inner = list(PARTS["inner"])

    def distance(some: Faces, uv: NDArray[Any]) -> NDArray[Any]:
        mean = np.full(68, np.inf)
        mean[inner] = np.linalg.norm(some.errors(uv, inner), axis=-1).mean(axis=0)
        return np.asarray(np.where(on_face(layout, uv), (mean + mean[MIRROR]) / 2, np.inf))

    def best_of(
        some: Faces, uv: NDArray[Any], moves: Sequence[tuple[float, float]]
    ) -> NDArray[Any]:
        best, least = uv.copy(), distance(some, uv)
        for move in moves:
            other = moved(uv, halves, *move)
            value = distance(some, other)
            better = value < least - 1e-6
            best[better], least[better] = other[better], value[better]
        return best

    wide = [(u, v) for u in range(-REACH[0], REACH[0] + 1) for v in range(-REACH[1], REACH[1] + 1)]
    uv = best_of(faces.those(slice(None, None, 4)), start, wide)
    for step in STEPS:
        for _ in range(8):
            before, uv = uv, best_of(faces, uv, [(u * step, v * step) for u, v in _MOVES])
            if np.array_equal(before, uv):
                break
    return uv


def agreeing(faces: Faces, uv: NDArray[Any]) -> Faces:
    """Returns the faces whose inner points agree with FaceMesh's."""
    lengths = np.linalg.norm(faces.errors(uv, list(PARTS["inner"])), axis=-1)
    return faces.those(np.median(lengths, axis=1) < AGREE)


def ratios(points: NDArray[Any], parts: Any) -> NDArray[Any]:
    """Returns openness in the picture (n, R) of points (n, 68, 2)."""

    def distance(pair: tuple[int, int]) -> NDArray[Any]:
        a, b = pair
        return np.asarray(np.linalg.norm(points[:, a] - points[:, b], axis=-1))

    return np.stack(
        [sum(map(distance, pairs)) / len(pairs) / distance(ends) for pairs, ends in parts],
        axis=1,
    )


@dataclass
class _Parts:
    """Moves points that make ratios, together.

    The cost is the mean distance of ``points`` in percent of the face, less ``CORRELATION`` times
    the mean correlation of the ratios with FaceMesh's and with the labels', and ``RATIO`` times
    their mean absolute difference from FaceMesh's.
    """

    layout: UvLayout
    points: Sequence[int]
    parts: Any
    labels: Callable[[Faces], NDArray[Any]]

    def figures(self, faces: Faces, uv: NDArray[Any]) -> dict[str, float]:
        points = list(self.points)
        found = np.zeros((len(faces.sizes), 68, 2))
        found[:, points] = faces.at(uv, points)
        errors = (found - faces.seen)[:, points] * (100 / faces.sizes[:, None, None])
        own, seen = ratios(found, self.parts), ratios(faces.seen, self.parts)
        return {
            "distance, %": float(np.linalg.norm(errors, axis=-1).mean()),
            "r with FaceMesh": pearson(own.ravel(), seen.ravel()) or 0.0,
            "r with the labels": pearson(own.ravel(), self.labels(faces).ravel()) or 0.0,
            "mean difference of the ratio": float(np.abs(own - seen).mean()),
        }

    def cost(self, faces: Faces, uv: NDArray[Any]) -> float:
        if not on_face(self.layout, uv)[list(self.points)].all():
            return np.inf
        distance, seen, labels, off = self.figures(faces, uv).values()
        return distance - CORRELATION * (seen + labels) / 2 + RATIO * off

    def fit(self, faces: Faces, uv: NDArray[Any]) -> NDArray[Any]:
        halves = [p for p in self.points if p <= MIRROR[p]]
        least = self.cost(faces, uv)
        for step in (2.0, 1.0, *STEPS):
            for _ in range(6):
                before = least
                for point in halves:
                    for u, v in _MOVES:
                        other = moved(uv, [point], u * step, v * step)
                        value = self.cost(faces, other)
                        if value < least - 1e-5:
                            uv, least = other, value
                if least == before:
                    break
        return uv


def remaining(faces: Faces, uv: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Returns by part of the face, in percent of its size: the mean distance, the mean length of
    the points' median offsets (along axes that follow the eyes), and the distance without them."""
    eyes = faces.seen[:, 42:48].mean(1) - faces.seen[:, 36:42].mean(1)
    eyes /= np.linalg.norm(eyes, axis=1, keepdims=True)
    axes = np.stack([eyes, eyes[:, ::-1] * (-1, 1)], axis=1)
    errors = np.einsum("nij,npj->npi", axes, faces.errors(uv))
    offsets = np.median(errors, axis=0)
    result = {}
    for part in ("inner", "brows", "nose", "eyes", "mouth"):
        points = list(PARTS[part])
        here = errors[:, points]
        result[part] = {
            "distance": float(np.linalg.norm(here, axis=-1).mean()),
            "offset of a point": float(np.linalg.norm(offsets[points], axis=-1).mean()),
            "spread": float(np.linalg.norm(here - offsets[points], axis=-1).mean()),
        }
    return result


def study(options: argparse.Namespace) -> None:
    if options.json:
        check_writable(options.json)
    layout = load_layout("ict")
    with reporting() as report:
        train = gather(options.pack, "train", options.faces, options.model, report)
        check = gather(options.pack, "val", options.faces, options.model, report)
    uv = nearest(train, layout)
    train, check = agreeing(train, uv), agreeing(check, uv)
    uv = nearest(train, layout)
    parts = {
        "eyes": _Parts(layout, range(36, 48), _EYES, lambda faces: faces.eyes),
        "inner lips": _Parts(layout, range(60, 68), _MOUTH, lambda faces: faces.mouth),
    }
    for part in parts.values():
        uv = part.fit(train, uv)
    uv = uv.astype(np.float32)
    document = {
        "model": options.model,
        "faces": {"train": len(train.sizes), "val": len(check.sizes)},
        "on val": {
            name: {
                "against FaceMesh, % of the face": remaining(check, places),
                **{key: part.figures(check, places) for key, part in parts.items()},
            }
            for name, places in (("aflw", layout.landmark_uv), ("300w", uv))
        },
        "moved, pixels of the map": np.round((uv - layout.landmark_uv) * 128, 2).tolist(),
    }
    print(json.dumps(document["on val"], indent=1))
    if options.json:
        with replaced(options.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    if options.write:
        with np.load(ASSET) as data:
            content = {**data, "landmarks_300w": uv}
        with replaced(ASSET) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **content)
        print(f"wrote {ASSET.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path)
    parser.add_argument("--model", default="edge", help="shipped name or model file")
    parser.add_argument("--faces", type=int, default=3000, help="at most so many of each split")
    parser.add_argument("--write", action="store_true", help="change the shipped layout")
    parser.add_argument("--json", type=Path)
    try:
        study(parser.parse_args())
    except PosganError as error:
        report_error(error)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
