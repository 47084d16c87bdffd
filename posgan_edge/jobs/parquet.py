"""Faces as Parquet: one row per face, with the map as coefficients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from posgan_edge.engines.base import Engine
from posgan_edge.errors import BadInput, UsageError, one_line
from posgan_edge.faces.values import Face
from posgan_edge.files import as_path
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import Pose
from posgan_edge.geometry.values import FaceBox
from posgan_edge.jobs.columns import (
    CODE_KEY,
    COMMON,
    PARTS,
    VERSION,
    VERSION_KEY,
    face_row,
    load_pyarrow,
    map_code,
    schema,
    table,
)
from posgan_edge.jobs.mapcodes import MapCode
from posgan_edge.live.sinks.base import RecordSink, Result
from posgan_edge.live.sinks.outputs import Outputs

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of a row group, which is in memory when it is written; less where maps are stored whole.
ROW_GROUP = 4096
_ROW_GROUP_BYTES = 16 << 20
#: Rows that are read at a time.
_READ_ROWS = 64
_LENGTH = Struct("<Q")  # stands before each batch of collected rows


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


class ParquetSink(RecordSink):
    """One row for each face of each frame.

    A map is stored as coefficients of the modes of ``engine`` (or of the engine given to
    ``start``). Without modes, and for maps outside their span, the whole map is stored in float32.
    ``blendshapes``: rows have the faces' blendshapes. Until the end, the rows are kept in another
    file. Raises UsageError if the name does not end in .parquet, and MissingRuntime without
    pyarrow.
    """

    dense = True
    collected = ".rows"

    def __init__(
        self,
        path: str | Path,
        engine: Engine | None = None,
        outputs: Outputs | None = None,
        blendshapes: bool = False,
    ) -> None:
        if Path(path).suffix != ".parquet":
            raise UsageError(f"{path}: give a name that ends in .parquet")
        load_pyarrow()
        self.expressions = blendshapes
        self._engine = engine
        self._layout: UvLayout | None = None
        self._made: tuple[MapCode, pa.Schema] | None = None
        super().__init__(path, outputs)

    def start(self, engine: Engine, layout: UvLayout | None = None) -> None:
        """See ``Sink``."""
        self._engine, self._layout = engine, layout

    def encode(self, result: Result) -> bytes:
        """See ``Sink``."""
        if not result.faces:
            return b""
        first = result.faces[0].position_map
        code, columns = self._code(None if first is None else first.layout)
        rows = [face_row(result.frame, face, code, self.expressions) for face in result.faces]
        (batch,) = table(rows, columns).to_batches()
        message: bytes = batch.serialize().to_pybytes()
        return _LENGTH.pack(len(message)) + message

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``."""
        if data:
            # At the end the file is written beside the rows.
            self.check_room(self._whole)
            super().append(data, name)

    def made(self) -> None:
        """See ``RecordSink``."""
        code, columns = self._code()
        arrow = load_pyarrow()
        with open(self.temporary, "wb") as stream, arrow.parquet.ParquetWriter(
            stream, columns, compression="zstd", use_dictionary=["source"]
        ) as writer:  # fmt: skip
            for group in _groups(self.records, self._whole, columns):
                writer.write_table(group)
            writer.add_key_value_metadata({VERSION_KEY: VERSION, CODE_KEY: code.to_text()})

    def _code(self, layout: UvLayout | None = None) -> tuple[MapCode, pa.Schema]:
        """How maps are stored, and the columns. ``layout`` is that of the first map."""
        if self._made is None:
            if self._engine is None:
                raise BadInput(f"{self.path}: give the sink the engine that the faces are from")
            code = map_code(self._engine, self._layout or layout)
            self._made = code, schema(code.count)
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_engine": None, "_layout": None, "_made": None}


def _groups(path: Path, size: int, columns: pa.Schema) -> Iterator[pa.Table]:
    """The first ``size`` bytes of collected rows as tables, of which each becomes a row group."""
    arrow = load_pyarrow()
    waiting: list[Any] = []
    weight = 0.0
    with open(path, "rb") as stream:
        while stream.tell() < size:
            (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
            batch = arrow.ipc.read_record_batch(arrow.py_buffer(stream.read(length)), columns)
            waiting.append(batch)
            weight += batch.num_rows / ROW_GROUP + length / _ROW_GROUP_BYTES
            if weight >= 1:
                yield arrow.Table.from_batches(waiting, columns)
                waiting, weight = [], 0.0
    if waiting:
        yield arrow.Table.from_batches(waiting, columns)


def read_faces(path: str | Path) -> Iterator[Face]:
    """Yields the faces of a Parquet file of posgan-edge, in its order, with their maps.

    ``path`` may also be a folder of ``posgan-edge label``; its order is arbitrary. Maps are exact
    to 1e-4 px, or to a millionth of the crop's side if that is more. Only a part of a file is in
    memory at a time. Raises BadInput for any other file, and MissingRuntime without pyarrow.

    >>> from posgan_edge import read_faces
    >>> for face in read_faces("faces.parquet"):                     # doctest: +SKIP
    ...     print(face.pose.yaw, face.dense_map.xyz.shape)
    """
    return (row.face for row in read_rows(as_path(path)))


def read_rows(path: str | Path) -> Iterator[StoredFace]:
    """As ``read_faces``, but yields each face with its source and frame."""
    if os.path.isdir(path):
        return _folder_rows(Path(path))
    file, code = _opened(path)
    if code is None:
        file.close()
        raise BadInput(f"{path}: is a part of a folder of faces: give the folder")
    return _rows(path, file, code)


def _folder_rows(folder: Path) -> Iterator[StoredFace]:
    """The rows of all parts of a folder, whose common file holds modes and layout."""
    if not (folder / COMMON).is_file():
        raise BadInput(
            f"{folder}: not a Parquet file that can be read, and no folder of posgan-edge label: "
            f"there is no {COMMON} in it"
        )
    file, code = _opened(folder / COMMON)
    file.close()
    if code is None:
        raise BadInput(f"{folder / COMMON}: holds no modes and layout")
    parts = sorted((folder / PARTS).glob("*.parquet"))
    return (row for part in parts for row in _rows(part, _opened(part)[0], code))


def _opened(path: str | Path) -> tuple[Any, MapCode | None]:
    """A file of faces and the code of its maps; None for a part of a folder."""
    arrow = load_pyarrow()
    if not os.path.isfile(path):  # a pipe would wait for its other end
        raise BadInput(f"{path}: no such Parquet file")
    try:
        file = arrow.parquet.ParquetFile(path)
        found = ", ".join(file.schema_arrow.names[:6])
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise BadInput(f"{path}: not a Parquet file that can be read: {one_line(error)}") from error
    metadata = file.metadata.metadata or {}
    if metadata.get(VERSION_KEY) != VERSION.encode():
        file.close()
        raise BadInput(f"{path}: holds no faces of posgan-edge (columns: {found})")
    try:
        return file, MapCode.from_text(metadata[CODE_KEY]) if CODE_KEY in metadata else None
    except BadInput as error:
        file.close()
        raise BadInput(f"{path}: {error}") from error


def _rows(path: str | Path, file: Any, code: MapCode) -> Iterator[StoredFace]:
    arrow = load_pyarrow()
    with file:
        try:
            for batch in file.iter_batches(batch_size=_READ_ROWS):
                columns = {n: batch.column(n).to_pylist() for n in batch.schema.names}
                for index in range(batch.num_rows):
                    yield _stored({name: v[index] for name, v in columns.items()}, code)
        except (
            OSError, LookupError, TypeError, ValueError, OverflowError, arrow.ArrowException,
        ) as error:  # fmt: skip
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
