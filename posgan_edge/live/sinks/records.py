"""JSON lines, CSV and NPZ files."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.faces.expression_basis import ARKIT_NAMES
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.landmarks import LANDMARK_NAMES, openness
from posgan_edge.live.sinks.base import RecordSink, Result
from posgan_edge.live.sinks.outputs import Outputs

_ROW: list[Any] = [
    ("frame", "i8"), ("timestamp", "f8"), ("id", "i4"), ("score", "f4"), ("box", "f4", 4),
    ("landmarks", "f4", (68, 3)), ("facing", "f4", 68), ("pose", "f4", 3),
    ("rotation", "f4", (3, 3)), ("scale", "f4"), ("translation", "f4", 3), ("source", "i4"),
]  # fmt: skip
_CSV_COLUMNS = (
    "source", "frame", "timestamp", "id", "score", "presence", "x", "y", "width", "height",
    "pitch", "yaw", "roll", "right_eye_openness", "left_eye_openness", "mouth_openness",
)  # fmt: skip


class JsonLinesSink(RecordSink):
    """One line per frame (see ``frame_record`` for its fields); the path ``-`` is stdout.

    ``intrinsics`` (3, 3) adds the head's metric pose to each face, ``blendshapes`` its 52 ARKit
    blendshapes.
    """

    def __init__(
        self,
        path: str | Path,
        intrinsics: FloatArray | None = None,
        outputs: Outputs | None = None,
        blendshapes: bool = False,
    ) -> None:
        self.expressions, self._intrinsics = blendshapes, intrinsics
        if str(path) == "-":
            if sys.stdout is None:
                raise BadInput("-: standard output is closed")
            if not hasattr(sys.stdout, "buffer"):  # a notebook's, or a text in memory
                raise BadInput("-: standard output takes no bytes here")
            self.name, self._open, self._whole = "-", False, 0
            # Not the buffer, which a thread that hangs in a write would keep from the exit.
            self._stream = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
            return
        super().__init__(path, outputs)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``."""
        record = frame_record(
            result.frame, result.faces, self._intrinsics, result.timings_ms, self.expressions
        )
        if result.camera:
            record["camera"] = result.camera
        if result.latency_ms:
            record["latency_ms"] = round(result.latency_ms, 2)
        return json.dumps(record).encode() + b"\n"

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``."""
        try:
            super().append(data, name)
            if self.name == "-":
                self._stream.flush()
        except BrokenPipeError:
            # The reader has closed the pipe, which is no error; nothing more can be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


class CsvSink(RecordSink):
    """A line with the names of the columns, then one line for each face of each frame: source,
    frame, box (x, y, width, height in pixels), presence, pose in degrees, openness of eyes and
    mouth, and x, y, z of the 68 landmarks in pixels; with ``blendshapes`` also their 52 values,
    empty where there are none. Raises UsageError if the name does not end in .csv."""

    def __init__(
        self, path: str | Path, outputs: Outputs | None = None, blendshapes: bool = False
    ) -> None:
        if Path(path).suffix.lower() != ".csv":
            raise UsageError(f"{path}: give a name that ends in .csv")
        self.expressions = blendshapes
        super().__init__(path, outputs)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``."""
        frame, rows = result.frame, []
        for face in result.faces:
            record = _face_record(face)
            values = [
                frame.name, frame.index, round(frame.timestamp, 6), face.id, record["score"],
                record["presence"], *record["box"], *record["pose"].values(),
                *record["openness"].values(), *(v for point in record["landmarks"] for v in point),
            ]  # fmt: skip
            if self.expressions:
                shapes = _blendshapes(face)["blendshapes"]
                values += [""] * len(ARKIT_NAMES) if shapes is None else shapes.values()
            rows.append(values)
        return _csv_lines(rows)

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``."""
        if not self._whole:
            data = _csv_lines([csv_columns(self.expressions)]) + data
        super().append(data, name)


def csv_columns(blendshapes: bool = False) -> list[str]:
    """The names of the columns of ``CsvSink``."""
    points = [f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xyz"]
    return [*_CSV_COLUMNS, *points, *(ARKIT_NAMES if blendshapes else ())]


def _csv_lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # A file's name may hold bytes that are no UTF-8; they are written as they are.
    return text.getvalue().encode(errors="surrogateescape")


class NpzSink(RecordSink):
    """One row for each face of each frame: ``frame``, ``timestamp`` (s), ``id``, ``score``,
    ``box`` (4,), ``landmarks`` (68, 3), ``facing`` (68,), ``pose`` (pitch, yaw, roll in degrees),
    ``rotation`` (3, 3), ``scale``, ``translation`` (3,), ``source``: which of ``source_names``
    (S,) the frame is of; and ``landmark_names`` (68,). With ``blendshapes`` also ``blendshapes``
    (52,), NaN where there are none, and ``blendshape_names`` (52,).

    Until the end, the rows are kept in a file, not in memory.
    """

    collected = ".rows"

    def __init__(
        self, path: str | Path, outputs: Outputs | None = None, blendshapes: bool = False
    ) -> None:
        if Path(path).suffix != ".npz":
            raise UsageError(f"{path}: give a name that ends in .npz")
        self.expressions = blendshapes
        added = [("blendshapes", "f4", len(ARKIT_NAMES))] if blendshapes else []
        self._row = np.dtype([*_ROW, *added])
        self._sources: dict[str, int] = {}
        super().__init__(path, outputs)
        if self._whole and outputs is not None and outputs.pictures is not None:
            for row in self._rows():
                self._number(outputs.pictures[int(row["frame"])].name)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``."""
        rows = np.zeros(len(result.faces), self._row)
        for row, face in zip(rows, result.faces, strict=True):
            pose, box = face.pose, face.box
            row["frame"], row["timestamp"] = result.frame.index, result.frame.timestamp
            row["id"], row["score"] = face.id, box.score
            row["box"] = box.x, box.y, box.width, box.height
            row["landmarks"], row["facing"] = face.landmarks, face.facing
            row["pose"] = pose.pitch, pose.yaw, pose.roll
            row["rotation"], row["scale"] = pose.rotation, pose.scale
            row["translation"] = pose.translation
            if self.expressions:
                shapes = face.blendshapes
                row["blendshapes"] = np.nan if shapes is None else list(shapes.values())
        return rows.tobytes()

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``."""
        rows = np.frombuffer(bytearray(data), self._row)
        if len(rows):
            rows["source"] = self._number(name)
        # At the end the arrays are written beside the rows, which takes the same space again.
        self.check_room(self._whole)
        super().append(rows.tobytes(), name)

    def made(self) -> None:
        """See ``RecordSink``."""
        rows = self._rows()
        with open(self.temporary, "wb") as stream:
            columns = {name: rows[name] for name in self._row.names or ()}
            columns |= {"source_names": np.array([*self._sources], np.str_)}
            if self.expressions:
                columns |= {"blendshape_names": np.array(ARKIT_NAMES)}
            np.savez_compressed(stream, **columns, landmark_names=np.array(LANDMARK_NAMES))

    def _number(self, name: str) -> int:
        return self._sources.setdefault(name, len(self._sources))

    def _rows(self) -> NDArray[Any]:
        """The rows in the file, which are not read into memory."""
        count = self._whole // self._row.itemsize
        if not count:
            return np.zeros(0, self._row)
        return np.memmap(self.records, self._row, "r", shape=(count,))


def frame_record(
    frame: Frame,
    faces: Sequence[Face],
    intrinsics: FloatArray | None = None,
    timings_ms: Mapping[str, float] | None = None,
    blendshapes: bool = False,
) -> dict[str, Any]:
    """A frame's faces as plain data: lengths in frame pixels, angles in degrees, times in s.

    ``timings_ms`` is added to each face. With ``intrinsics`` (3, 3) each face has ``metric``:
    rotation vector and translation in mm in OpenCV's camera axes, and the distance of the
    landmarks from their projections; None if no such pose is found. ``blendshapes``: each face
    has its 52 ARKit blendshapes by name; None if there are none (see ``Face.blendshapes``).
    """
    times = {name: round(value, 2) for name, value in (timings_ms or {}).items()}
    return {
        "source": frame.name,
        "frame": frame.index,
        "timestamp": round(frame.timestamp, 6),
        "width": int(frame.image.shape[1]),
        "height": int(frame.image.shape[0]),
        "faces": [
            _face_record(face)
            | {"timings_ms": times}
            | _metric(face, intrinsics)
            | (_blendshapes(face) if blendshapes else {})
            for face in faces
        ],
    }


def _face_record(face: Face) -> dict[str, Any]:
    box, crop, pose = face.box, face.crop, face.pose
    return {
        "id": face.id,
        "score": round(box.score, 4),
        "presence": round(face.presence, 4),
        "box": [round(v, 2) for v in (box.x, box.y, box.width, box.height)],
        "landmarks": np.round(face.landmarks.astype(float), 2).tolist(),
        "visible": face.visible.astype(int).tolist(),
        "pose": {k: round(getattr(pose, k), 2) for k in ("pitch", "yaw", "roll")},
        "openness": {k: round(v, 3) for k, v in openness(face.landmarks).items()},
        "crop": {
            "center": [round(crop.center_x, 2), round(crop.center_y, 2)],
            "side": round(crop.side, 2),
            "angle": round(crop.angle, 2),
        },
    }


def _blendshapes(face: Face) -> dict[str, Any]:
    shapes = face.blendshapes
    return {"blendshapes": shapes and {name: round(v, 3) for name, v in shapes.items()}}


def _metric(face: Face, intrinsics: FloatArray | None) -> dict[str, Any]:
    if intrinsics is None:
        return {}
    from posgan_edge.faces.camera import metric_pose

    try:
        found = metric_pose(face, intrinsics)
    except BadInput:
        return {"metric": None}
    return {
        "metric": {
            "rotation_vector": np.round(found.rotation_vector, 4).tolist(),
            "translation_mm": np.round(found.translation_mm, 1).tolist(),
            "reprojection_px": round(found.reprojection_px, 3),
        }
    }
