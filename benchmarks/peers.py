"""Landmarks of this package compared with those of others, on the same faces in one run.

    python benchmarks/peers.py DATASET [--engine E ...] [--peer P ...] [--crop gt|detector]
                               [--limit N | --sample N --seed S] [--json OUT]

DATASET: what `posgan-edge benchmark --dataset` takes. A set with human points is scored on NME by
part, openness and closed eyes, AFLW2000-3D on NME by yaw on both label sets. The tables are
Markdown: one on the faces that each method found, one on those that all found.

Every method gets the original photo. Engines of this package use the box of the labels, or with
--crop detector the box that the detector finds. FaceMesh finds faces itself. In a second row it
gets a padded crop around the label box if it finds nothing in the photo.
"without bias": the mean offset of each point is subtracted first (along axes that follow the line
of the eyes, in sizes of the face), so that different conventions for points do not matter.
Milliseconds are wall-clock medians per face without decoding: run it on an idle machine.

To add a method, write a class with a name and `find` (see Peer), and list it in PEERS.
"""

from __future__ import annotations

import argparse
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from peer_tables import Row, label_sets_of, markdown, tables

from posgan_edge.cli import report_error
from posgan_edge.cli.progress import reporting
from posgan_edge.engines import load_engine
from posgan_edge.errors import PosganError, UsageError, missing
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.datasets import open_faces, sampled
from posgan_edge.evaluation.scoring import DETECTION_IOU, MOST_FACES
from posgan_edge.faces.detector import Detector, MediaPipeDetector
from posgan_edge.faces.pipeline import FacePipeline
from posgan_edge.files import check_writable, replaced
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.values import FaceBox
from posgan_edge.system import machine_block

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
    """An engine of this package, one pass, on the label box or the detector's."""

    def __init__(self, model: str, detector: Detector | None) -> None:
        self.name, self._detector = model, detector
        self._engine = load_engine(model, threads=1)
        self._pipeline = FacePipeline(self._engine, passes=1, dense=False)

    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        box: FaceBox | None = FaceBox.around(face.original)
        if self._detector is not None:
            box = overlapping(self._detector.detect(image, MOST_FACES), face, lambda found: found)
        if box is None:
            return None
        (found,) = self._pipeline.process(image, [box], keep_all=True)
        return found.landmarks[:, :2]

    def describe(self) -> dict[str, Any]:
        return {**asdict(self._engine.info), "detector": self._detector is not None}

    def close(self) -> None:
        self._pipeline.close()
        self._engine.close()


class FaceMesh(Peer):
    """MediaPipe FaceMesh with refined landmarks, each photo by itself."""

    name = "FaceMesh"
    attempts = ("", WITH_CROP)

    def __init__(self) -> None:
        try:
            import mediapipe
            from mediapipe.python.solutions.face_mesh import FaceMesh as Solution
        except ImportError as error:
            raise missing("mediapipe", "FaceMesh", "detect") from error
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


#: Methods of others by the name that --peer takes.
PEERS: dict[str, Callable[[], Peer]] = {"facemesh": FaceMesh}


def overlapping(
    found: Sequence[Any], face: LabelledFace, box_of: Callable[[Any], FaceBox]
) -> Any | None:
    """Returns the box with the largest overlap with the label box, or None (the benchmark's
    rule)."""
    truth = FaceBox.around(face.original)
    best = max(found, key=lambda one: truth.iou(box_of(one)), default=None)
    return best if best is not None and truth.iou(box_of(best)) >= DETECTION_IOU else None


def run_peers(peers: Sequence[Peer], faces: Sequence[LabelledFace], report: Any) -> dict[str, Row]:
    """Runs every method on every face, face by face, so that the load of the machine is the
    same."""
    rows = {row_name(p, a): Row({}, []) for p in peers for a in range(len(p.attempts))}
    for number, face in enumerate(faces):
        image = face.image()
        for peer in peers:
            if not number:
                peer.find(image, face, peer.attempts[0])  # the first call sets up
            points, taken = None, 0.0
            for place, attempt in enumerate(peer.attempts):
                row = rows[row_name(peer, place)]
                if points is None:
                    row.retried += place > 0
                    start = time.perf_counter()
                    points = peer.find(image, face, attempt)
                    taken += (time.perf_counter() - start) * 1e3
                row.ms.append(taken)
                if points is not None:
                    row.points[face.name] = points
        report("faces", number + 1, len(faces))
    return rows


def row_name(peer: Peer, place: int) -> str:
    return ", ".join(filter(None, (peer.name, peer.attempts[place])))


def chosen(options: argparse.Namespace, every: Sequence[LabelledFace]) -> list[LabelledFace]:
    if options.sample is not None:
        return sampled(every, options.sample, options.seed)
    return list(every)[: options.limit]


def study(options: argparse.Namespace) -> None:
    if options.limit is not None and options.sample is not None:
        raise UsageError("--limit takes the first faces and --sample draws some: give one of them")
    if options.json:
        check_writable(options.json)
    with open_faces(options.dataset) as every:
        faces = chosen(options, every)
        detector = MediaPipeDetector() if options.crop == "detector" else None
        peers: list[Peer] = []
        try:
            peers += [Ours(model, detector) for model in options.engine or ["edge"]]
            peers += [PEERS[name]() for name in options.peer or PEERS]
            with reporting() as report:
                rows = run_peers(peers, faces, report)
            described = {peer.name: peer.describe() for peer in peers}
        finally:
            for peer in peers:
                peer.close()
    result = tables(rows, faces, label_sets_of(faces))
    for title, table in result.items():
        print(markdown(title, table, rows, len(faces)))
    if options.json:
        document = {
            "machine": machine_block(),
            "settings": {"crop": options.crop, "limit": options.limit, "sample": options.sample,
                         "seed": None if options.sample is None else options.seed},
            "faces": len(faces),
            "methods": described,
            "rows": {
                name: {"found": len(row.points), "retried": row.retried,
                       "missed": [f.name for f in faces if f.name not in row.points],
                       "ms": {"median": float(np.median(row.ms)),
                              "p90": float(np.percentile(row.ms, 90))}}
                for name, row in rows.items()
            },
            "tables": result,
        }  # fmt: skip
        with replaced(options.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--engine", action="append", help="may be given many times; edge unless")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), help="all unless given")
    parser.add_argument("--crop", choices=["gt", "detector"], default="gt")
    parser.add_argument("--limit", type=positive)
    parser.add_argument("--sample", type=positive)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    try:
        study(parser.parse_args())
    except PosganError as error:
        report_error(error)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
