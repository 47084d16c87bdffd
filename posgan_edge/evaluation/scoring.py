"""Running an engine on labelled faces and scoring its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.human68 import BadLabels
from posgan_edge.evaluation.metrics import (
    ROLL_BINS,
    area_under_curve,
    bin_of,
    failure_rate,
    wrap_roll,
)
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.detector import Detector
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.metrics import nme, nme_3d
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.geometry.values import FaceBox
from posgan_edge.progress import Progress, silent

#: Head-pose error is measured on faces whose angles are all at most this, in degrees.
POSE_LIMIT = 99.0
#: Least overlap (IoU) of a detection with the label box.
DETECTION_IOU = 0.3
#: Largest number of detections per photo.
MOST_FACES = 8


@dataclass(frozen=True)
class Prediction:
    """Landmarks (68, 3) of a face in photo pixels, and angles (pitch, yaw, roll) in degrees."""

    landmarks: NDArray[np.float32]
    angles: NDArray[np.float64]


#: Called for a photo that cannot be read. If it is None, the error is raised.
OnUnreadable = Callable[[LabelledFace, PosganError], None]
#: Photo (H, W, 3) uint8 BGR, crop and side S in pixels -> (3, S, S) float32 RGB in [0, 1].
Cut = Callable[[Image, Crop, int], NDArray[np.float32]]


def _photo(face: LabelledFace, on_unreadable: OnUnreadable | None) -> Image | None:
    try:
        return face.image()
    except BadLabels:
        raise
    except PosganError as error:
        if on_unreadable is None:
            raise
        on_unreadable(face, error)
        return None


def predict_from_labels(
    engine: Engine,
    faces: Sequence[LabelledFace],
    batch: int = 16,
    progress: Progress = silent,
    on_unreadable: OnUnreadable | None = None,
    cut: Cut = extract_crop,
    layout: UvLayout | None = None,
) -> Iterator[Prediction | None]:
    """Yields a prediction for each face, on its ground-truth crop; None for an unreadable photo.

    ``cut`` makes the network's input, as ``extract_crop`` does. ``layout`` is used instead of the
    engine's built-in one; it may have other landmarks. Raises PosganError for an unreadable photo
    if ``on_unreadable`` is None.
    """
    layout, size = layout or load_layout(engine.info.layout), engine.info.input_size
    batch = min(batch, engine.info.batch or batch)
    done = 0
    for start in range(0, len(faces), batch):
        group = faces[start : start + batch]
        photos = [_photo(face, on_unreadable) for face in group]
        inputs = [
            cut(photo, face.crop, size)
            for photo, face in zip(photos, group, strict=True)
            if photo is not None
        ]
        maps = iter(engine.infer(np.stack(inputs)) if inputs else ())
        for photo, face in zip(photos, group, strict=True):
            if photo is None:
                yield None
            else:
                position_map = next(maps)
                pose = fit_pose(position_map, layout, face.crop)
                yield Prediction(
                    face.crop.to_frame(layout.landmarks(position_map)),
                    np.array([pose.pitch, pose.yaw, pose.roll]),
                )
            done += 1
            progress("scoring", done, len(faces))


def predict_from_photos(
    engine: Engine,
    faces: Sequence[LabelledFace],
    detector: Detector | None,
    passes: int = 2,
    mirror: bool = False,
    progress: Progress = silent,
    on_unreadable: OnUnreadable | None = None,
    layout: UvLayout | None = None,
) -> Iterator[Prediction | None]:
    """Yields a prediction for each face as ``run`` makes it; None for a face that is not found.

    Photos show more people than the labelled one, so the detection with the largest overlap with
    the label box is taken; the overlap must be at least ``DETECTION_IOU``. Without a detector the
    label boxes are used. ``layout`` is used instead of the engine's built-in one. Raises
    PosganError for an unreadable photo if ``on_unreadable`` is None.
    """
    pipeline = FacePipeline(engine, None, passes, mirror, dense=False, layout=layout)
    for index, face in enumerate(faces):
        image, truth = _photo(face, on_unreadable), FaceBox.around(face.original)
        box: FaceBox | None = truth
        if image is None:
            box = None
        elif detector is not None:
            found = detector.detect(image, max_faces=MOST_FACES)
            box = max(found, key=truth.iou, default=None)
            if box is None or truth.iou(box) < DETECTION_IOU:
                box = None
        if box is None or image is None:
            yield None
        else:
            (result,) = pipeline.process(Frame(image, name=face.name), [box], keep_all=True)
            pose = result.pose
            yield Prediction(result.landmarks, np.array([pose.pitch, pose.yaw, pose.roll]))
        progress("scoring", index + 1, len(faces))


@dataclass(frozen=True)
class LabelScores:
    """2D-68 NME in percent against one label set.

    ``auc`` (up to 10 %) and ``failure_rate`` (above 10 %) count faces that were not found as
    failed. Without labelled angles there are no bins, and the lists and ``counts`` are empty. The
    mean of a bin without faces is None; ``mean_of_yaw_bins`` is None too if a yaw bin is empty.
    """

    mean: float
    mean_of_yaw_bins: float | None
    yaw: list[float | None]
    pitch: list[float | None]
    roll: list[float | None]
    counts: dict[str, list[int]]
    auc: float
    failure_rate: float


@dataclass(frozen=True)
class Scores:
    """All accuracy figures of one engine.

    ``missed`` names the faces that were not found. ``per_face`` maps names to NME in percent by
    label set. ``nme_3d`` (percent) is None if the labels have no depth; ``pose_mae`` (degrees) is
    None if they have no angles.
    """

    faces: int
    missed: list[str]
    labels: dict[str, LabelScores]
    nme_3d: float | None
    pose_mae: dict[str, float | None] | None
    per_face: dict[str, dict[str, float]] = field(default_factory=dict)


def score(
    faces: Sequence[LabelledFace],
    predictions: Sequence[Prediction | None],
    label_sets: Sequence[str] = ("original", "reannotated"),
) -> Scores:
    """Returns the scores of predictions, one per face.

    A prediction is None if the face was not found; such faces are listed, but not part of the
    means. Raises BadInput if no face was found at all.
    """
    pairs = [(f, p) for f, p in zip(faces, predictions, strict=True) if p is not None]
    if not pairs:
        raise BadInput(f"no face was found in any of {len(faces)} photos")
    labelled = [f.angles for f, _ in pairs if f.angles is not None]
    angles = np.array(labelled).reshape(-1, 3) if len(labelled) == len(pairs) else None
    per_face: dict[str, dict[str, float]] = {f.name: {} for f, _ in pairs}
    results: dict[str, LabelScores] = {}
    for label_set in label_sets:
        errors = np.array([nme(p.landmarks, f.labels(label_set)) for f, p in pairs])
        for (face, _), error in zip(pairs, errors, strict=True):
            per_face[face.name][label_set] = float(error)
        results[label_set] = _bins(errors, angles, len(faces) - len(pairs))
    depth = [nme_3d(p.landmarks.copy(), f.original) for f, p in pairs if f.original.shape[1] == 3]
    found = np.array([p.angles for _, p in pairs]).reshape(-1, 3)
    return Scores(
        faces=len(faces),
        missed=[f.name for f, p in zip(faces, predictions, strict=True) if p is None],
        labels=results,
        nme_3d=_mean(np.array(depth)) if len(depth) == len(pairs) else None,
        pose_mae=None if angles is None else _pose_error(found, angles),
        per_face=per_face,
    )


def summary(scores: Scores) -> dict[str, float]:
    """Returns the mean NME in percent by label set, as ``nme_NAME``, for a training log."""
    return {f"nme_{name}": labels.mean for name, labels in scores.labels.items()}


def _bins(
    errors: NDArray[np.float64], angles: NDArray[np.float64] | None, missed: int
) -> LabelScores:
    bins: dict[str, NDArray[np.int64]] = {}
    means: dict[str, list[float | None]] = {"yaw": [], "pitch": [], "roll": []}
    if angles is not None:
        pitch, yaw, roll = angles.T
        bins = {
            "yaw": bin_of(yaw),
            "pitch": bin_of(pitch),
            "roll": bin_of(wrap_roll(roll), ROLL_BINS),
        }
        means = {n: [_mean(errors[b == i]) for i in range(3)] for n, b in bins.items()}
    counts = {n: [int((b == i).sum()) for i in range(3)] for n, b in bins.items()}
    return LabelScores(
        mean=float(errors.mean()),
        mean_of_yaw_bins=_mean_of(means["yaw"]),
        counts=counts,
        auc=area_under_curve(errors, missed),
        failure_rate=failure_rate(errors, missed),
        **means,
    )


def _pose_error(
    predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, float | None]:
    keep = (np.abs(truth) <= POSE_LIMIT).all(axis=1)
    error = np.abs(wrap_roll(predicted[keep] - truth[keep]))
    means = [_mean(column) for column in error.T]
    return {**dict(zip(("pitch", "yaw", "roll"), means, strict=True)), "mean": _mean_of(means)}


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_of(means: Sequence[float | None]) -> float | None:
    """Returns the mean of means; None if there are none or one of them is None."""
    known = [mean for mean in means if mean is not None]
    return float(np.mean(known)) if known and len(known) == len(means) else None
