"""Making a position-map pack from pictures and PRNet-style maps, a few maps at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.archives import read_array
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import check_writable, scratch_folder
from posgan_edge.geometry.landmarks import openness
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.images import read_image
from posgan_edge.progress import Progress, silent
from posgan_edge.training.folders import input_pictures, label_of
from posgan_edge.training.publish import publish

#: The UV layout of PRNet-style maps.
LAYOUT = "prnet"
#: Most faces in one ``train-*.npz``.
PART = 5000
#: Maps that are held in memory at once.
BATCH = 32


@dataclass(frozen=True)
class PackOptions:
    """How a pack is made.

    ``components`` is the largest number of basis vectors. ``validation`` faces, chosen at random
    with ``seed``, go to ``val.npz`` and are not used for the basis; None means one in 20, at most
    600. Pictures are stored as JPEG with sides of ``picture_size`` pixels.
    """

    components: int = 160
    validation: int | None = None
    seed: int = 0
    picture_size: int = 128
    overwrite: bool = False


@dataclass(frozen=True)
class PackSummary:
    """What a pack holds. ``error`` is the mean distance between coded and given maps of validation
    faces, over the face, in pixels of 256; ``bad`` has a line for each pair that was left out."""

    training: int
    validation: int
    components: int
    map_size: int
    error: float
    bad: list[str]


@dataclass
class _Faces:
    """The faces of one part, without their codes."""

    labels: list[Path] = field(default_factory=list)
    jpeg: list[NDArray[np.uint8]] = field(default_factory=list)
    yaw: list[float] = field(default_factory=list)
    eyes: list[tuple[float, float]] = field(default_factory=list)
    mouth: list[float] = field(default_factory=list)

    def add(
        self, label: Path, jpeg: NDArray[np.uint8], face_map: NDArray[np.float32], layout: UvLayout
    ) -> None:
        points = layout.landmarks(face_map)
        width, gap = (float(np.linalg.norm(points[i] - points[j])) for i, j in ((48, 54), (62, 66)))
        ratios = openness(points)
        self.yaw.append(fit_pose(face_map, layout).yaw)
        self.labels.append(label)
        self.jpeg.append(jpeg)
        self.eyes.append((ratios["right_eye"], ratios["left_eye"]))
        self.mouth.append(gap / width if width > 0 else 0.0)


def make_pack(
    source: str | Path, output: str | Path, options: PackOptions, progress: Progress = silent
) -> PackSummary:
    """Writes ``basis.npz``, ``train-*.npz`` and ``val.npz`` (see ``datasets.PackMaps``).

    ``source`` has ``InputImage/NAME.jpg``, square, and ``LabelImage_npy/NAME.npy`` (M, M, 3): x, y
    and z of each point in pixels of an M-pixel picture, pixel centres at integers. Pairs that
    cannot be used are left out and named in the result. Raises BadInput if too few can be used, and
    UsageError if ``output`` has a pack and ``options.overwrite`` is False.
    """
    source, output = Path(source), Path(output)
    old = [p for name in ("basis.npz", "train-*.npz", "val.npz") for p in output.glob(name)]
    if old and not options.overwrite:
        raise UsageError(f"{old[0]}: already exists", "overwrite")
    check_writable(output / "basis.npz")
    pictures = input_pictures(source)
    rng = np.random.default_rng(options.seed)
    pictures = [pictures[i] for i in rng.permutation(len(pictures))]
    wanted = options.validation
    if wanted is None:
        wanted = max(1, min(600, len(pictures) // 20))
    training, held, bad = _Faces(), _Faces(), list[str]()
    layout, size, sketch = load_layout(LAYOUT), 0, None
    for number, picture in enumerate(pictures):
        progress("reading pictures and maps", number, len(pictures))
        label = label_of(picture)
        faces = held if len(held.labels) < wanted else training
        try:
            jpeg = _jpeg(picture, options.picture_size)
            face_map = read_map(label, size, layout)
        except BadInput as why:
            bad.append(str(why))
            continue
        faces.add(label, jpeg, face_map, layout)
        size = face_map.shape[-1]
        if faces is training:
            sketch = sketch or _Sketch(options.components, face_map.size, rng)
            sketch.add(face_map)
    if sketch is None or sketch.count < 2:
        reason = f"; {len(bad)} cannot be used, the first: {bad[0]}" if bad else ""
        raise BadInput(
            f"{source}: {len(pictures) - len(bad)} usable pairs are too few for {wanted} "
            f"validation faces and at least 2 to train on{reason}"
        )
    basis = _Basis.of(sketch, training.labels, size, layout, progress)
    held_codes = np.concatenate([basis.codes(m) for m in _batches(held.labels, size, layout)])
    error = basis.error(held_codes, _batches(held.labels, size, layout), layout)
    with scratch_folder(".pack.part-", output) as temporary:
        parts = Path(temporary)
        np.savez_compressed(
            parts / "basis.npz", mean=basis.mean, components=basis.components,
            mask=layout.mask_at(size), kpt_uv=layout.landmark_uv, layout=LAYOUT,
        )  # fmt: skip
        _save(parts / "val.npz", held, held_codes, slice(None))
        for index, start in enumerate(range(0, len(training.labels), PART)):
            part = slice(start, start + PART)
            _save(parts / f"train-{index}.npz", training, basis.training_codes[part], part)
        publish(parts, output, old)
    return PackSummary(
        len(training.labels), len(held.labels), len(basis.components), size, error, bad
    )


def read_map(path: Path, size: int, layout: UvLayout) -> NDArray[np.float32]:
    """Reads a map file. Returns (3, M, M) float32 in units of the picture's side.

    Raises BadInput if it cannot be read, is not (M, M, 3) or not finite, has another M than
    ``size`` (unless that is 0), or is clearly not in pixels.
    """
    try:
        pixels = read_array(path)
    except BadInput as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BadInput(f"{path}: cannot be read as a map: {reason}") from error
    if pixels.dtype.kind not in "fiu":
        raise BadInput(f"{path}: is not an array of numbers")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] != pixels.shape[1]:
        raise BadInput(f"{path}: has shape {pixels.shape}, not (M, M, 3)")
    side = pixels.shape[0]
    if size and side != size:
        raise BadInput(f"{path}: is {side} pixels wide, others are {size}")
    if not np.isfinite(pixels).all():
        raise BadInput(f"{path}: has values that are not finite")
    face_map = ((pixels.transpose(2, 0, 1) + 0.5) / side).astype(np.float32)
    spread = np.ptp(layout.landmarks(face_map)[:, :2], axis=0) * side
    if not 4 <= spread.max() <= 4 * side:
        raise BadInput(
            f"{path}: the landmarks span {spread.max():.3g} pixels: positions must be in pixels"
        )
    return face_map


def _jpeg(path: Path, size: int) -> NDArray[np.uint8]:
    image = read_image(path)
    if image.shape[0] != image.shape[1]:
        raise BadInput(f"{path}: is {image.shape[1]} x {image.shape[0]} pixels, not square")
    if image.shape[0] != size:
        how = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=how)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not done:
        raise BadInput(f"{path}: cannot be stored as JPEG")
    return np.asarray(data, np.uint8).ravel()


def _batches(labels: list[Path], size: int, layout: UvLayout) -> Iterator[NDArray[np.float32]]:
    """Maps (n, 3, M, M), a few at a time."""
    for start in range(0, len(labels), BATCH):
        yield np.stack([read_map(path, size, layout) for path in labels[start : start + BATCH]])


class _Sketch:
    """Random sums of maps of ``length`` numbers; they span nearly the principal components."""

    def __init__(self, components: int, length: int, rng: np.random.Generator) -> None:
        self.components, self.count, self._rng = components, 0, rng
        rows = components + max(20, components // 2)
        self._sums = np.zeros((rows, length), np.float32)
        self._weights = np.zeros(rows, np.float32)
        self._total = np.zeros(length)
        self._waiting: list[NDArray[np.float32]] = []

    def add(self, face_map: NDArray[np.float32]) -> None:
        self._waiting.append(face_map.ravel())
        self.count += 1
        if len(self._waiting) == BATCH:
            self._take()

    def span(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the mean (D,) and an orthonormal basis (D, L) of the differences from it."""
        self._take()
        mean = (self._total / self.count).astype(np.float32)
        spread = self._sums - np.outer(self._weights, mean)
        return mean, np.linalg.qr(spread[: max(self.count - 1, 1)].T)[0]

    def _take(self) -> None:
        if not self._waiting:
            return
        maps, self._waiting = np.stack(self._waiting), []
        weights = self._rng.standard_normal((len(self._weights), len(maps)), np.float32)
        self._sums += weights @ maps
        self._weights += weights.sum(axis=1)
        self._total += maps.sum(axis=0, dtype=np.float64)


@dataclass(frozen=True)
class _Basis:
    """``mean`` (M, M, 3) float32 and ``components`` (C, M, M, 3) float16 of coded maps; codes have
    unit variance. ``training_codes`` (n, C) float32."""

    mean: NDArray[np.float32]
    components: NDArray[np.float16]
    training_codes: NDArray[np.float32]
    _project: NDArray[np.float32]  # (D, C)

    @classmethod
    def of(
        cls, sketch: _Sketch, labels: list[Path], size: int, layout: UvLayout, progress: Progress
    ) -> _Basis:
        mean, span = sketch.span()
        inside: list[NDArray[np.float32]] = []
        for maps in _batches(labels, size, layout):
            progress("coding maps", len(inside) * BATCH, len(labels))
            inside.append((maps.reshape(len(maps), -1) - mean) @ span)
        within = np.concatenate(inside)
        _, values, axes = np.linalg.svd(within, full_matrices=False)
        count = min(sketch.components, int((values > 1e-4 * values[0]).sum()))
        std = values[:count] / np.float32(np.sqrt(len(labels)))
        vectors = (span @ axes[:count].T).astype(np.float32)
        components = (vectors * std).T.reshape(count, 3, size, size).transpose(0, 2, 3, 1)
        return cls(
            mean.reshape(3, size, size).transpose(1, 2, 0),
            components.astype(np.float16),
            np.asarray(within @ axes[:count].T / std, np.float32),
            vectors / std,
        )

    def codes(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the codes (n, C) float32 of maps (n, 3, M, M)."""
        flat = self.mean.transpose(2, 0, 1).ravel()
        return np.asarray((maps.reshape(len(maps), -1) - flat) @ self._project, np.float32)

    def error(
        self, codes: NDArray[np.float32], batches: Iterator[NDArray[np.float32]], layout: UvLayout
    ) -> float:
        """Returns the mean distance between coded and given maps over the face, in px of 256."""
        mask = layout.mask_at(self.mean.shape[0])
        basis = self.components.astype(np.float32)
        off = []
        for number, maps in enumerate(batches):
            part = codes[number * BATCH : number * BATCH + len(maps)]
            coded = self.mean + np.tensordot(part, basis, 1)
            distance = np.linalg.norm(coded - maps.transpose(0, 2, 3, 1), axis=-1)
            off.extend(distance[:, mask].mean(axis=1))
        return 256 * float(np.mean(off))


def _save(path: Path, faces: _Faces, codes: NDArray[np.float32], part: slice) -> None:
    files = faces.jpeg[part]
    np.savez(
        path,
        jpeg=np.concatenate(files),
        offsets=np.cumsum([0, *map(len, files)]),
        codes=codes,
        yaw=np.array(faces.yaw[part], np.float32),
        eyes=np.array(faces.eyes[part], np.float32),
        mouth=np.array(faces.mouth[part], np.float32),
        name=np.array([label.stem for label in faces.labels[part]]),
    )
