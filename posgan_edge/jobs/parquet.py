"""Faces as Parquet: one row per face, with the map as coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput, UsageError, missing, one_line
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.landmarks import openness
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.geometry.pose import Pose
from posgan_edge.geometry.values import FaceBox
from posgan_edge.jobs.mapcodes import MapCode, with_shift
from posgan_edge.live.sinks.base import RESERVE, FileSink, Result
from posgan_edge.live.sinks.outputs import Outputs

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "1"
_VERSION_KEY, _CODE_KEY = b"posgan_edge.faces", b"posgan_edge.maps"
#: Rows that are collected in memory before they are written: with coefficients, and with whole
#: maps.
ROW_GROUP, RAW_ROW_GROUP = 4096, 64
#: Columns of fixed length: name, length, whether float64 (else float32). Missing values are NaN,
#: because pyarrow cannot read nulls in lists of fixed length in parts.
_LISTS = (
    ("box", 4, True), ("crop", 4, True), ("pose", 3, True), ("rotation", 9, True),
    ("translation", 3, True), ("landmarks", 204, False), ("facing", 68, False),
    ("openness", 3, False), ("blendshapes", 52, False),
)  # fmt: skip
_OPENNESS = ("right_eye", "left_eye", "mouth")


@dataclass(frozen=True)
class StoredFace:
    """A row of the table: a face, its source and its frame.

    ``timestamp`` is in seconds; ``width`` and ``height`` are of the frame, in pixels.
    """

    face: Face
    source: str
    frame: int
    timestamp: float
    width: int
    height: int


def load_pyarrow() -> Any:
    """Returns the module ``pyarrow`` with ``pyarrow.parquet``. Raises MissingRuntime without it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing("pyarrow", "Parquet", "parquet") from error
    return pyarrow


def schema(count: int) -> pa.Schema:
    """Returns the columns for maps of ``count`` modes (0: only whole maps)."""
    arrow = load_pyarrow()
    fields = [
        arrow.field("source", arrow.string(), False), arrow.field("frame", arrow.int64(), False),
        arrow.field("timestamp", arrow.float64(), False),
        arrow.field("width", arrow.int32(), False), arrow.field("height", arrow.int32(), False),
        arrow.field("id", arrow.int64(), False), arrow.field("score", arrow.float64(), False),
        arrow.field("box_roll", arrow.float64(), False),
        arrow.field("scale", arrow.float64(), False),
        arrow.field("residual", arrow.float64(), False),
    ]  # fmt: skip
    lists = [*_LISTS, *([("map_coefficients", 3 * count, False)] if count else [])]
    for name, length, wide in lists:
        kind = arrow.list_(arrow.float64() if wide else arrow.float32(), length)
        fields.append(arrow.field(name, kind, False))
    fields.append(arrow.field("map_values", arrow.list_(arrow.float32())))
    fields.append(arrow.field("map_error_px", arrow.float32()))
    return arrow.schema(fields)


def face_row(frame: Frame, face: Face, code: MapCode | None) -> dict[str, Any]:
    """Returns the values of the columns for one face. If ``code`` is None, the map is left out."""
    box, crop, pose = face.box, face.crop, face.pose
    open_ = openness(face.landmarks)
    row: dict[str, Any] = {
        "source": frame.name,
        "frame": frame.index,
        "timestamp": frame.timestamp,
        "width": frame.image.shape[1],
        "height": frame.image.shape[0],
        "id": face.id,
        "score": box.score,
        "box": [box.x, box.y, box.width, box.height],
        "box_roll": box.roll,
        "crop": [crop.center_x, crop.center_y, crop.side, crop.angle],
        "pose": [pose.pitch, pose.yaw, pose.roll],
        "rotation": pose.rotation.ravel(),
        "scale": pose.scale,
        "translation": pose.translation,
        "residual": pose.residual,
        "landmarks": face.landmarks.ravel(),
        "facing": face.facing,
        "openness": [open_[name] for name in _OPENNESS],
    }
    if (expression := getattr(face, "expression", None)) is not None:
        row["blendshapes"] = expression
    if code is not None and face.position_map is not None:
        coded = code.code(face.position_map, crop.side)
        if coded.coefficients is not None:
            row["map_coefficients"] = coded.coefficients
        row["map_values"], row["map_error_px"] = coded.values, coded.error_px
    return row


class ParquetSink(FileSink):
    """One row for each face of each frame.

    A map is stored as coefficients of the modes of ``engine`` (or of the engine given to
    ``start``). Without modes, and for maps outside their span, the whole map is stored in float32.
    Rows are written every ``ROW_GROUP`` faces. Raises UsageError if the name does not end in
    .parquet, and MissingRuntime without pyarrow.
    """

    dense = True

    def __init__(
        self, path: str | Path, engine: Engine | None = None, outputs: Outputs | None = None
    ) -> None:
        if Path(path).suffix != ".parquet":
            raise UsageError(f"{path}: give a name that ends in .parquet")
        load_pyarrow()
        super().__init__(path, outputs)
        self._engine = engine
        self._file: _Writer | None = None

    def start(self, engine: Engine) -> None:
        """See ``Sink``."""
        self._engine = engine

    def write(self, result: Result) -> None:
        if not result.faces:
            return
        if self._file is None:
            if self._engine is None:
                raise BadInput(f"{self.path}: give the sink the engine that the faces are from")
            first = result.faces[0].position_map
            layout = None if first is None else first.layout
            self._file = _Writer(self.temporary, self._engine, layout)
        self.used = True
        for face in result.faces:
            self._file.add(result.frame, face)
        if self._file.full:
            self.check_room(3 * RESERVE)
            self._file.flush()

    def finish(self) -> None:
        if self._file is not None:
            self._file.close()


class _Writer:
    """The open file, and the rows that are not written yet."""

    def __init__(self, path: Path, engine: Engine, layout: UvLayout | None) -> None:
        info, modes = engine.info, engine.modes()
        modes = None if modes is None else with_shift(modes)
        self._code = MapCode(layout or load_layout(info.layout), info.map_size, modes)
        self._schema = schema(self._code.count)
        self._rows: list[dict[str, Any]] = []
        self._waiting = 0.0
        self._stream = open(path, "wb")  # noqa: SIM115
        self._writer = load_pyarrow().parquet.ParquetWriter(
            self._stream, self._schema, compression="zstd", use_dictionary=["source"]
        )

    def add(self, frame: Frame, face: Face) -> None:
        row = face_row(frame, face, self._code)
        raw = row.get("map_values") is not None and "map_coefficients" not in row
        self._waiting += 1 / (RAW_ROW_GROUP if raw else ROW_GROUP)
        self._rows.append(row)

    @property
    def full(self) -> bool:
        return self._waiting >= 1

    def flush(self) -> None:
        rows, self._rows, self._waiting = self._rows, [], 0.0
        self._writer.write_table(table(rows, self._schema))

    def close(self) -> None:
        try:
            if self._rows:
                self.flush()
            self._writer.add_key_value_metadata(
                {_VERSION_KEY: VERSION, _CODE_KEY: self._code.to_text()}
            )
        finally:
            self._writer.close()
            self._stream.close()


def table(rows: Sequence[dict[str, Any]], columns: pa.Schema) -> pa.Table:
    """Returns rows of ``face_row`` as an Arrow table with these columns."""
    arrow = load_pyarrow()
    made = []
    for field in columns:
        length = getattr(field.type, "list_size", 0)
        absent = np.full(length, np.nan) if length else None
        made.append(arrow.array([row.get(field.name, absent) for row in rows], field.type))
    return arrow.Table.from_arrays(made, schema=columns)


def read_faces(path: str | Path) -> Iterator[Face]:
    """Yields the faces of a Parquet file of posgan-edge, in its order, with their maps.

    Maps are exact to 1e-4 px, or to a millionth of the crop's side if that is more. Only a part of
    the file is in memory at a time. Raises BadInput for any other file, and MissingRuntime without
    pyarrow.

    >>> from posgan_edge import read_faces
    >>> for face in read_faces("faces.parquet"):                     # doctest: +SKIP
    ...     print(face.pose.yaw, face.dense_map.xyz.shape)
    """
    return (row.face for row in read_rows(path))


def read_rows(path: str | Path) -> Iterator[StoredFace]:
    """As ``read_faces``, but yields each face with its source and frame."""
    arrow = load_pyarrow()
    try:
        file = arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise BadInput(f"{path}: not a Parquet file that can be read: {one_line(error)}") from error
    metadata = file.metadata.metadata or {}
    if metadata.get(_VERSION_KEY) != VERSION.encode() or _CODE_KEY not in metadata:
        found = ", ".join(file.schema_arrow.names[:6])
        file.close()
        raise BadInput(f"{path}: holds no faces of posgan-edge run --parquet (columns: {found})")
    try:
        code = MapCode.from_text(metadata[_CODE_KEY])
    except BadInput as error:
        file.close()
        raise BadInput(f"{path}: {error}") from error
    return _rows(path, file, code)


def _rows(path: str | Path, file: Any, code: MapCode) -> Iterator[StoredFace]:
    arrow = load_pyarrow()
    with file:
        try:
            for batch in file.iter_batches(batch_size=RAW_ROW_GROUP):
                columns = {n: batch.column(n).to_pylist() for n in batch.schema.names}
                for index in range(batch.num_rows):
                    yield _stored({name: v[index] for name, v in columns.items()}, code)
        except (OSError, KeyError, TypeError, ValueError, arrow.ArrowException) as error:
            raise BadInput(f"{path}: cannot be read to its end: {one_line(error)}") from error


def _stored(row: dict[str, Any], code: MapCode) -> StoredFace:
    coefficients, values = _given(row.get("map_coefficients")), row["map_values"]
    mapped = coefficients is not None or values is not None
    extra: dict[str, Any] = {}
    if _given(row["blendshapes"]) is not None:
        extra["expression"] = np.array(row["blendshapes"], np.float64)
    x, y, width, height = row["box"]
    pitch, yaw, roll = row["pose"]
    rotation, translation = np.array(row["rotation"]), np.array(row["translation"])
    face = Face(
        box=FaceBox(x, y, width, height, row["score"], row["box_roll"]),
        crop=Crop(*row["crop"]),
        position_map=code.map(coefficients, values) if mapped else None,
        landmarks=np.array(row["landmarks"], np.float32).reshape(68, 3),
        facing=np.array(row["facing"], np.float32),
        pose=Pose(
            pitch, yaw, roll, rotation.reshape(3, 3), row["scale"], translation, row["residual"]
        ),
        id=row["id"],
        **extra,
    )
    frame, timestamp = row["frame"], row["timestamp"]
    return StoredFace(face, row["source"], frame, timestamp, row["width"], row["height"])


def _given(values: list[float] | None) -> list[float] | None:
    """Returns the values of a column; None if they are missing or NaN."""
    return None if values is None or values[0] != values[0] else values
