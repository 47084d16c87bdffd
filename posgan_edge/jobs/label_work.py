"""What an actor does: from names or bytes of pictures to rows of faces."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, PosganError, UsageError, one_line
from posgan_edge.faces.detector import MediaPipeDetector
from posgan_edge.faces.values import Frame
from posgan_edge.geometry.layout import DEFAULT_SET, UvLayout, load_layout
from posgan_edge.geometry.values import FaceBox
from posgan_edge.images import LARGEST_FILE, decode_image
from posgan_edge.jobs.columns import CODE_KEY, face_row, load_pyarrow, map_code, schema, table
from posgan_edge.jobs.label_input import filesystem_of
from posgan_edge.jobs.mapcodes import MapCode
from posgan_edge.live.sources.base import is_web
from posgan_edge.live.sources.pictures import Picture, PictureReader

if TYPE_CHECKING:
    import pyarrow as pa

    from posgan_edge.live.finder import PictureFinder

#: Columns between an actor and the writer: Arrow's stream format of a picture's faces, and what
#: failed (null: nothing). With one row a picture, Ray counts pictures.
FACES, FAILURE = "_faces", "_failure"


@dataclass(frozen=True)
class Work:
    """What is done with each picture; as the options of ``run`` for pictures.

    ``boxes`` are used instead of a detector. ``landmarks`` is the landmark set. ``uv_mask`` and
    ``verify`` are files: a mask of the UV layout, and the public key of a signed engine.
    """

    model: str = "edge"
    provider: str | None = None
    boxes: tuple[FaceBox, ...] | None = None
    max_faces: int = 64
    passes: int = 2
    mirror: bool = False
    landmarks: str = DEFAULT_SET
    blendshapes: bool = False
    uv_mask: str | None = None
    verify: str | None = None

    def checked(self) -> str:
        """Returns the text of the code for the model's maps.

        Raises PosganError if the model or the detector cannot be loaded, and UsageError for
        blendshapes of a model that has none. No GPU is used for an ONNX model, because this machine
        may have none.
        """
        from posgan_edge.engines import load_engine

        provider = "cpu" if self.provider in ("cuda", "tensorrt") else self.provider
        with load_engine(self.model, None, provider, self.verify) as engine, ExitStack() as stack:
            if self.boxes is None:
                stack.enter_context(MediaPipeDetector())
            layout = load_layout(engine.info.layout).with_landmarks(self.landmarks)
            if self.blendshapes and layout.name != "ict":
                raise UsageError(
                    f"blendshapes need a model of UV layout 'ict', and {engine.info.name} has "
                    f"{layout.name!r}"
                )
            if self.uv_mask is not None:
                layout = layout.with_mask_file(self.uv_mask)
            return map_code(engine, layout).to_text()

    def finder(
        self, threads: int | None, layout: UvLayout, stack: ExitStack, lines: list[str]
    ) -> PictureFinder:
        """Returns the finder; ``stack`` closes it, ``lines`` gets a line for each failure.

        Raises PosganError if the model or the detector cannot be loaded.
        """
        from posgan_edge.engines import load_engine
        from posgan_edge.faces.pipeline import FacePipeline
        from posgan_edge.live.finder import PictureFinder

        engine = load_engine(self.model, threads, self.provider, self.verify)
        stack.enter_context(engine)
        detector = None if self.boxes else stack.enter_context(MediaPipeDetector())
        pipeline = FacePipeline(engine, detector, self.passes, self.mirror, layout=layout)
        stack.enter_context(pipeline)
        return PictureFinder(pipeline, self.boxes, self.max_faces, lines.append)


class Labeler:
    """One pipeline, for Ray's ``map_batches``.

    ``common`` is the file with modes and layout; ``name_column`` and ``bytes_column`` are those of
    the batches; without bytes, pictures are read where columns ``path`` and ``member`` say.
    """

    def __init__(
        self,
        work: Work,
        threads: int,
        common: str,
        name_column: str,
        bytes_column: str | None,
    ) -> None:
        self._lines: list[str] = []
        self._stack = ExitStack()
        self._code = read_code(common)
        self._finder = work.finder(threads, self._code.layout, self._stack, self._lines)
        self._reader = self._stack.enter_context(PictureReader())
        self._blendshapes = work.blendshapes
        self._schema = schema(self._code.count)
        self._columns = name_column, bytes_column

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns a row for each picture of a batch: its name, its faces, what failed."""
        arrow = load_pyarrow()
        name_column, bytes_column = self._columns
        names = [str(name) for name in batch[name_column].to_pylist()]
        if bytes_column is None:
            places = zip(batch["path"].to_pylist(), batch["member"].to_pylist(), strict=True)
            images = [partial(self._read, *map(os.fsdecode, place)) for place in places]
        else:
            images = [
                partial(_decoded, name, data)
                for name, data in zip(names, batch[bytes_column], strict=True)
            ]
        rows = [self._picture(name, image) for name, image in zip(names, images, strict=True)]
        return arrow.table(
            {
                name_column: batch[name_column],
                FACES: arrow.array([faces for faces, _ in rows], arrow.binary()),
                FAILURE: arrow.array([failure for _, failure in rows], arrow.string()),
            }
        )

    def _picture(self, name: str, image: Callable[[], Image]) -> tuple[bytes | None, str | None]:
        self._lines.clear()
        rows: list[dict[str, Any]] = []
        try:
            frame = Frame(image(), name=name)
            faces = self._finder.update(frame) or ()
            rows = [face_row(frame, face, self._code, self._blendshapes) for face in faces]
        except PosganError as error:
            self._lines.append(str(error) if name in str(error) else f"{name}: {error}")
        except MemoryError:
            self._lines.append(f"{name}: does not fit into memory")
        except Exception as error:  # of a library
            self._lines.append(f"{name}: {type(error).__name__}: {one_line(error)}")
        failure = None
        if self._lines:
            text = " ".join(self._lines[0].split())
            failure = text.encode(errors="backslashreplace").decode()
        return _stream(table(rows, self._schema)) if rows else None, failure

    def _read(self, path: str, member: str) -> Image:
        if "://" in path and not is_web(path):
            return read_address(path)
        return self._reader.read(Picture(path, "", member))


def read_code(common: str) -> MapCode:
    """Returns the code of a folder's maps. Raises BadInput if its common file cannot be read."""
    arrow = load_pyarrow()
    filesystem, path = filesystem_of(common)
    try:
        metadata = arrow.parquet.read_metadata(path, filesystem=filesystem).metadata
    except (OSError, arrow.ArrowException) as error:
        raise BadInput(f"{common}: cannot be read on every machine: {one_line(error)}") from error
    return MapCode.from_text(metadata[CODE_KEY])


def read_address(name: str) -> Image:
    """The picture at an address that pyarrow can open. Raises BadInput if it cannot be read."""
    filesystem, path = filesystem_of(name)
    try:
        with filesystem.open_input_stream(path) as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {one_line(error)}") from error
    if len(data) > LARGEST_FILE:
        raise BadInput(f"{name}: is larger than {LARGEST_FILE >> 20} MiB")
    return decode_image(np.frombuffer(data, np.uint8), name)


def _decoded(name: str, value: Any) -> Image:
    data = value.as_py()
    if data is None:
        raise BadInput(f"{name}: no bytes are stored")
    return decode_image(np.frombuffer(data, np.uint8), name)


def _stream(rows: pa.Table) -> bytes:
    """Returns a table in Arrow's stream format."""
    arrow = load_pyarrow()
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())
