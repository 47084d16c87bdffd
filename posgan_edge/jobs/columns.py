"""The columns of a table of faces, and what its metadata holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from posgan_edge.engines.base import Engine
from posgan_edge.errors import needing
from posgan_edge.faces.values import Face, Frame
from posgan_edge.geometry.landmarks import openness
from posgan_edge.geometry.layout import UvLayout, load_layout
from posgan_edge.jobs.mapcodes import MapCode, with_shift

if TYPE_CHECKING:
    import pyarrow as pa

#: Version of the columns, and keys of the metadata: that version, and the code of the maps.
VERSION = "1"
VERSION_KEY, CODE_KEY = b"posgan_edge.faces", b"posgan_edge.maps"
#: In a folder of faces: the file with the metadata, and the folder of the parts.
COMMON, PARTS = "_common_metadata", "parts"
#: Columns of fixed length: name, length, whether float64 (else float32). Missing values are NaN,
#: because pyarrow cannot read nulls in lists of fixed length in parts.
_LISTS = (
    ("box", 4, True), ("crop", 4, True), ("pose", 3, True), ("rotation", 9, True),
    ("translation", 3, True), ("landmarks", 204, False), ("facing", 68, False),
    ("openness", 3, False), ("blendshapes", 52, False),
)  # fmt: skip
_OPENNESS = ("right_eye", "left_eye", "mouth")


def load_pyarrow() -> Any:
    """Returns the module ``pyarrow`` with ``pyarrow.fs`` and ``pyarrow.parquet``.

    Raises MissingRuntime without it.
    """
    with needing("pyarrow", "Parquet", "parquet"):
        import pyarrow
        import pyarrow.fs
        import pyarrow.parquet
    return pyarrow


def map_code(engine: Engine, layout: UvLayout | None = None) -> MapCode:
    """Returns how maps of an engine are stored; ``layout`` is used instead of its built-in one."""
    info, modes = engine.info, engine.modes()
    modes = None if modes is None else with_shift(modes)
    return MapCode(layout or load_layout(info.layout), info.map_size, modes)


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


def face_row(
    frame: Frame, face: Face, code: MapCode | None, blendshapes: bool = False
) -> dict[str, Any]:
    """Returns the values of the columns for one face. If ``code`` is None, the map is left out.

    ``blendshapes``: if the face has none from a tracker, they are read from its map.
    """
    box, crop, pose = face.box, face.crop, face.pose
    open_ = openness(face.landmarks)
    row: dict[str, Any] = {
        # Names of files need not be UTF-8, strings in Parquet must.
        "source": frame.name.encode(errors="backslashreplace").decode(),
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
    if face.expression is not None:
        row["blendshapes"] = face.expression
    elif blendshapes and (shapes := face.blendshapes) is not None:
        row["blendshapes"] = list(shapes.values())
    if code is not None and face.position_map is not None:
        coded = code.code(face.position_map, crop.side)
        if coded.coefficients is not None:
            row["map_coefficients"] = coded.coefficients
        row["map_values"], row["map_error_px"] = coded.values, coded.error_px
    return row


def table(rows: Sequence[dict[str, Any]], columns: pa.Schema) -> pa.Table:
    """Returns rows of ``face_row`` as an Arrow table with these columns."""
    arrow = load_pyarrow()
    made = []
    for field in columns:
        length = getattr(field.type, "list_size", 0)
        absent = np.full(length, np.nan) if length else None
        made.append(arrow.array([row.get(field.name, absent) for row in rows], field.type))
    return arrow.Table.from_arrays(made, schema=columns)
