"""Measuring activation ranges on real faces, and the record that holds them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray
from posgan_edge.build.graph import values_around
from posgan_edge.build.trial import check_convertible
from posgan_edge.documents import Document, convert, plain, read
from posgan_edge.errors import BadInput
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.files import is_temporary, scratch_folder, sha256, write_whole
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.values import FaceBox
from posgan_edge.images import read_image
from posgan_edge.progress import Progress, silent

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger(__name__)
METHODS = ("minmax", "percentile", "mse")
#: Fewest faces that show a network's ranges.
FEWEST_FACES = 32
#: Operators in INT8: layers with weights, and those that may stand between them.
WEIGHTED_OPS = ["Conv", "ConvTranspose", "Gemm"]
QUANTIZED_OPS = [*WEIGHTED_OPS, "Add", "Relu", "LeakyRelu", "Resize", "Concat"]
_SCHEMA = 1
_Bound = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
_AT_A_TIME = 8


@dataclass(frozen=True)
class CalibrationFaces:
    """Network inputs (N, 3, S, S) float32, and the name and SHA-256 of each picture.

    ``landmarks`` (N, 68, 2) float32 are labels in crop units, NaN for pictures without labels.
    ``unreadable`` names pictures that could not be read and were left out.
    """

    images: NDArray[np.float32]
    sources: tuple[tuple[str, str], ...]
    landmarks: NDArray[np.float32]
    unreadable: tuple[str, ...] = ()


class CalibrationRecord(Document, frozen=True):
    """Ranges of every activation, and how they were made.

    ``ranges`` maps tensor names to (low, high). ``digest`` covers everything else in the record.
    """

    kind: ClassVar[str] = "calibration record"

    model_sha256: str
    method: str
    percentile: Annotated[float, msgspec.Meta(gt=0, le=100)]
    layout: str
    images: tuple[tuple[str, str], ...]
    ranges: dict[str, tuple[_Bound, _Bound]]
    schema: int = _SCHEMA

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if low > high:
                raise ValueError(f"the range of {name!r} ends below its start")

    def check_model(self, model: onnx.ModelProto, source: str | Path) -> None:
        """Raises BadInput, beginning with ``source``, if the record is of another model."""
        needed = values_around(model, QUANTIZED_OPS)
        strange = sorted(needed.symmetric_difference(self.ranges))
        if self.model_sha256 != model_digest(model):
            raise BadInput(f"{source}: was made from another model; calibrate this one")
        if strange:
            has = "has no range for" if strange[0] in needed else "has a range for the unknown"
            raise BadInput(f"{source}: {has} {strange[0]!r}; calibrate again")

    @property
    def digest(self) -> str:
        """SHA-256 of the record's content."""
        return _digest(plain(self))

    def save(self, path: str | Path) -> None:
        """Writes the record as JSON (atomically)."""
        content = plain(self)
        whole = {**content, "digest": _digest(content)}
        write_whole(path, json.dumps(whole, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> CalibrationRecord:
        """Reads a record. Raises BadInput if it is broken or was changed."""
        content = read(path, cls.kind)
        digest = content.pop("digest", None) if isinstance(content, dict) else None
        record = convert(content, cls, path)
        if record.schema != _SCHEMA or digest != _digest(content):
            raise BadInput(f"{path}: the calibration record was changed or is of another version")
        return record


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def model_digest(model: onnx.ModelProto) -> str:
    """Returns the SHA-256 of a model's bytes."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def check_method(method: str, percentile: float) -> None:
    """Raises BadInput for an unknown method or a percentile out of range."""
    if method not in METHODS:
        raise BadInput(f"unknown calibration method {method!r}: use {', '.join(METHODS)}")
    if not 0 < percentile <= 100:
        raise BadInput(f"percentile: {percentile:g} is not above 0 and at most 100")


def calibrate(
    model: onnx.ModelProto,
    faces: CalibrationFaces,
    layout: str,
    method: str = "percentile",
    percentile: float = 99.99,
    progress: Progress = silent,
) -> CalibrationRecord:
    """Runs the FP32 model on the faces. Returns the range of every activation.

    ``minmax`` takes the smallest and largest value, ``percentile`` cuts off the tails, and ``mse``
    takes the symmetric range with the least INT8 error on the histogram. Raises BadInput for too
    few faces, and for a model that cannot be calibrated.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    check_method(method, percentile)
    load_layout(layout)
    if len(faces.images) < FEWEST_FACES:
        raise BadInput(
            f"{len(faces.images)} faces were found for calibration, {FEWEST_FACES} are needed"
        )
    check_convertible(model, "the model")
    kind = CalibrationMethod.MinMax if method == "minmax" else CalibrationMethod.Percentile
    options: dict[str, Any] = {"symmetric": False}
    if method != "minmax":
        options = {"percentile": percentile, "num_bins": 2048}
    # The collector prints its progress; hide it, since the callback reports ours.
    with scratch_folder() as folder, contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            _saved(model, folder),
            QUANTIZED_OPS,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=kind,
            extra_options=options,
        )
        # The calibrator keeps all activations of a call in memory, so pass a few faces at a time.
        for start in range(0, len(faces.images), _AT_A_TIME):
            try:
                calibrator.collect_data(_Reader(faces.images[start : start + _AT_A_TIME]))
            except ValueError as error:  # a histogram of values that are not finite
                raise _not_finite() from error
            done = min(start + _AT_A_TIME, len(faces.images))
            progress("calibrating", done, len(faces.images))
        if method == "mse":
            histograms = calibrator.collector.histogram_dict
            ranges = {name: _mse_range(*entry[:2]) for name, entry in histograms.items()}
        else:
            found = calibrator.compute_data()
            ranges = {
                name: (float(np.min(v.range_value[0])), float(np.max(v.range_value[1])))
                for name, v in found.items()
            }
    if wrong := [name for name, range_ in ranges.items() if not np.isfinite(range_).all()]:
        raise BadInput(f"the model: {wrong[0]} holds numbers that are not finite")
    if not np.isfinite(list(ranges.values())).all():
        raise _not_finite()
    return CalibrationRecord(
        model_digest(model), method, percentile, layout, faces.sources, dict(sorted(ranges.items()))
    )


def _not_finite() -> BadInput:
    return BadInput("the model's values on these faces are not finite: nothing can be calibrated")


class _Reader:
    """Feeds faces to onnxruntime's calibrator one by one."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError("onnxruntime asks for strided reading only when told to")


def _saved(model: onnx.ModelProto, folder: str) -> str:
    path = Path(folder) / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return str(path)


def _mse_range(
    histogram: NDArray[np.integer[Any] | np.floating[Any]], edges: NDArray[np.floating[Any]]
) -> tuple[float, float]:
    """Returns the symmetric range with the least squared INT8 error, of 100 candidates."""
    centers = (edges[:-1] + edges[1:]) / 2
    largest = float(np.abs(edges).max())
    if largest == 0:
        return (0.0, 0.0)

    def error(clip: float) -> float:
        scale = clip / 127
        rounded = np.clip(np.round(centers / scale), -127, 127) * scale
        return float((histogram * (centers - rounded) ** 2).sum())

    best = min((largest * f for f in np.linspace(0.2, 1.0, 100)), key=error)
    return (-best if edges[0] < 0 else 0.0, best)


def tensors_range(ranges: dict[str, tuple[float, float]]) -> Any:
    """Returns the ranges in the form that onnxruntime's quantiser takes."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorsData

    values = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, values)


def folder_faces(
    folder: str | Path,
    input_size: int,
    names: Sequence[str] | None = None,
    labels: Mapping[str, FloatArray] | None = None,
    progress: Progress = silent,
) -> CalibrationFaces:
    """Returns crops of a folder's pictures, ``input_size`` pixels wide.

    ``labels`` holds landmarks (68, 2 or more) in photo pixels by file stem. A picture with labels
    is cropped at their box, others at the first face that the detector finds. ``names`` (file
    stems) restricts the pictures. Pictures without a face are left out, and unreadable ones, which
    are also logged and named in the result. Raises BadInput if there is no such folder.
    """
    labels = labels or {}
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder: give one with pictures of faces")
    pictures = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    pictures = [p for p in pictures if not is_temporary(p)]
    if names is not None:
        wanted = set(names)
        pictures = [p for p in pictures if p.stem in wanted]
    detector = MediaPipeDetector() if any(p.stem not in labels for p in pictures) else None
    images, sources, landmarks = [], [], []
    unreadable: list[str] = []
    for index, path in enumerate(pictures):
        try:
            image = read_image(path)
        except BadInput as error:
            _log.warning("left out: %s", error)
            unreadable.append(path.name)
            continue
        points = labels.get(path.stem)
        box = FaceBox.around(points) if points is not None else None
        if box is None and detector is not None:
            box = next(iter(detector.detect(image)), None)
        if box is not None:
            crop = Crop.from_box(box)
            images.append(extract_crop(image, crop, input_size))
            sources.append((path.name, sha256(path)))
            unknown = np.full((68, 2), np.nan, np.float32)
            landmarks.append(unknown if points is None else crop.to_crop(points)[:, :2])
        progress("reading faces", index + 1, len(pictures))
    if not images:
        empty = np.empty((0, 3, input_size, input_size), np.float32)
        return CalibrationFaces(empty, (), np.empty((0, 68, 2), np.float32), tuple(unreadable))
    return CalibrationFaces(
        np.stack(images), tuple(sources), np.stack(landmarks), tuple(unreadable)
    )
