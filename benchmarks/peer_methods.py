"""The methods that ``peers.py`` compares: this package's engines, MediaPipe FaceMesh."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines import load_engine
from posgan_edge.errors import needing
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.human68 import HumanFace
from posgan_edge.evaluation.scoring import DETECTION_IOU, MOST_FACES
from posgan_edge.faces.detector import Detector
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import DEFAULT_SET, HUMAN_SET, load_layout
from posgan_edge.geometry.values import FaceBox

#: FaceMesh's points for the 68 of iBUG: the table that most programs use, with the brows' outer
#: ends and without the lips of other tables, because this scores FaceMesh best on human points.
FACEMESH_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
#: Side of the padded crop over the longer side of the label box, and its pixels.
PADDED, PADDED_PIXELS = 2.0, 512
WITH_CROP = "padded crop where nothing was found"


class Peer(ABC):
    """One method. ``name`` is the name of its row; ``attempts`` names its attempts, in order."""

    name: str
    attempts: tuple[str, ...] = ("",)

    @abstractmethod
    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        """The 68 points (68, 2) of the labelled face in pixels of the photo (H, W, 3) uint8 BGR,
        continuous; None where it is not found."""

    def describe(self) -> dict[str, Any]:
        """Returns a description for the recorded results."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Frees its resources."""


class Ours(Peer):
    """An engine of this package, one pass, on the label box or the detector's.

    On people's points its landmark set is ``300w`` where its layout has it, else ``aflw``.
    """

    def __init__(self, model: str, detector: Detector | None, name: str | None = None) -> None:
        self.name, self._detector = name or model, detector
        self.engine = load_engine(model, threads=1)
        layout = load_layout(self.engine.info.layout)
        human = HUMAN_SET if HUMAN_SET in layout.landmark_sets else DEFAULT_SET
        self._human = layout.with_landmarks(human)
        self._pipelines = [
            FacePipeline(self.engine, passes=1, dense=False, layout=each)
            for each in (layout, self._human)
        ]

    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        box = box_of(image, face, self._detector)
        if box is None:
            return None
        pipeline = self._pipelines[isinstance(face, HumanFace)]
        (found,) = pipeline.process(image, [box], keep_all=True)
        return found.landmarks[:, :2]

    def describe(self) -> dict[str, Any]:
        return {
            **asdict(self.engine.info),
            "detector": self._detector is not None,
            "landmarks of people's points": self._human.landmark_set,
        }

    def close(self) -> None:
        for pipeline in self._pipelines:
            pipeline.close()
        self.engine.close()


class FaceMesh(Peer):
    """MediaPipe FaceMesh with refined landmarks, each photo by itself."""

    name = "FaceMesh"
    attempts = ("", WITH_CROP)

    def __init__(self) -> None:
        with needing("mediapipe", "FaceMesh", "detect"):
            import mediapipe
            from mediapipe.python.solutions.face_mesh import FaceMesh as Solution
        self._version = mediapipe.__version__
        self._solution = Solution(
            static_image_mode=True, max_num_faces=MOST_FACES, refine_landmarks=True
        )

    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        if attempt != WITH_CROP:
            return overlapping(self._meshes(image), face, FaceBox.around)
        crop = Crop.from_box(FaceBox.around(face.original), PADDED)
        matrix = crop.matrix
        matrix[:, :2] /= PADDED_PIXELS
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        padded = cv2.warpAffine(
            image, matrix, (PADDED_PIXELS, PADDED_PIXELS),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )  # fmt: skip
        found = [crop.to_frame(mesh / PADDED_PIXELS) for mesh in self._meshes(padded)]
        return overlapping(found, face, FaceBox.around)

    def _meshes(self, image: NDArray[Any]) -> list[NDArray[Any]]:
        found = self._solution.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).multi_face_landmarks
        size = image.shape[1::-1]
        return [
            np.array([(mesh.landmark[i].x, mesh.landmark[i].y) for i in FACEMESH_68]) * size
            for mesh in found or ()
        ]

    def describe(self) -> dict[str, Any]:
        return {"mediapipe": self._version, "refine_landmarks": True, "indices": FACEMESH_68}

    def close(self) -> None:
        self._solution.close()


def box_of(image: NDArray[Any], face: LabelledFace, detector: Detector | None) -> FaceBox | None:
    """Returns the box of the labels, or with a detector the box that it finds there, if any."""
    if detector is None:
        return FaceBox.around(face.original)
    found: FaceBox | None = overlapping(detector.detect(image, MOST_FACES), face, lambda box: box)
    return found


def overlapping(
    found: Sequence[Any], face: LabelledFace, box_of: Callable[[Any], FaceBox]
) -> Any | None:
    """Returns the box with the largest overlap with the label box, or None (the benchmark's
    rule)."""
    truth = FaceBox.around(face.original)
    best = max(found, key=lambda one: truth.iou(box_of(one)), default=None)
    return best if best is not None and truth.iou(box_of(best)) >= DETECTION_IOU else None
