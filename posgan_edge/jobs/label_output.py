"""The folder that labelling writes: parts of a table of faces, failures, Ray's checkpoint."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ray.data._internal.planner.plan_write_op import WRITE_UUID_KWARG_NAME
from ray.data.block import BlockAccessor
from ray.data.datasource import BlockBasedFileDatasink, WriteResult

from posgan_edge.errors import BadInput, UsageError, one_line
from posgan_edge.jobs.columns import (
    CODE_KEY,
    COMMON,
    PARTS,
    VERSION,
    VERSION_KEY,
    load_pyarrow,
    schema,
)
from posgan_edge.jobs.label_input import filesystem_of
from posgan_edge.jobs.label_work import FACES, FAILURE, Work
from posgan_edge.jobs.mapcodes import MapCode

pa = load_pyarrow()
pq, fs = pa.parquet, pa.fs
_WORK_KEY = b"posgan_edge.label"
#: In the folder: Ray's checkpoint. Readers of Parquet folders leave out names with an underscore.
_CHECKPOINT = "_checkpoint"
#: Below the parts, where Ray's recovery looks: files that are not whole yet, and failed pictures.
_UNFINISHED, _FAILED = "_unfinished", "_failed"


class Output:
    """The folder at a path or an address. Raises BadInput for an address of no known kind.

    ``parts``, ``checkpoint`` and ``common`` are its parts, as a path or an address.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.filesystem, self._path = filesystem_of(folder)
        root = folder.rstrip("/") if "://" in folder else self._path
        self.parts = f"{root}/{PARTS}"
        self.checkpoint = f"{root}/{_CHECKPOINT}"
        self.common = f"{root}/{COMMON}"

    def check(self, resume: bool) -> None:
        """Raises UsageError if the folder holds something and ``resume`` is False, and BadInput if
        it holds something else than labels."""
        try:
            kind = self.filesystem.get_file_info(self._path).type
            if kind == fs.FileType.NotFound:
                return
            if kind != fs.FileType.Directory:
                raise UsageError(f"{self.folder}: already exists and is not a folder")
            empty = not self.filesystem.get_file_info(fs.FileSelector(self._path))
        except OSError as error:
            raise BadInput(f"{self.folder}: cannot be read: {one_line(error)}") from error
        if empty:
            return
        if not resume:
            raise UsageError(f"{self.folder}: already exists", "resume")
        if not self._there():
            raise BadInput(f"{self.folder}: holds something else than labels: give a new folder")

    def _there(self) -> bool:
        info = self.filesystem.get_file_info(f"{self._path}/{COMMON}")
        return bool(info.type == fs.FileType.File)

    def begin(self, work: Work, code: str) -> None:
        """Makes the folder; ``code`` is the text of a ``MapCode``. Raises BadInput if it cannot be
        written, or if it was begun with other work."""
        doing = asdict(work)
        for name in ("provider", "verify"):  # faces are the same with others
            del doing[name]
        described = json.dumps(doing, sort_keys=True)
        if self._there():
            before = pq.read_metadata(f"{self._path}/{COMMON}", filesystem=self.filesystem).metadata
            if before.get(_WORK_KEY) != described.encode() or before[CODE_KEY] != code.encode():
                was = before.get(_WORK_KEY, b"nothing known").decode()
                raise BadInput(f"{self.folder}: was begun with another model or options: {was}")
            return
        try:
            for name in (f"{PARTS}/{_UNFINISHED}", f"{PARTS}/{_FAILED}", _CHECKPOINT):
                self.filesystem.create_dir(f"{self._path}/{name}", recursive=True)
            unfinished = f"{self._path}/.{COMMON}"
            columns = schema(MapCode.from_text(code).count)
            with pq.ParquetWriter(unfinished, columns, filesystem=self.filesystem) as writer:
                writer.add_key_value_metadata(
                    {VERSION_KEY: VERSION, CODE_KEY: code, _WORK_KEY: described}
                )
            self.filesystem.move(unfinished, f"{self._path}/{COMMON}")
        except OSError as error:
            raise BadInput(f"{self.folder}: cannot be written: {one_line(error)}") from error

    def failed(self) -> list[str]:
        """Returns a line for each picture that failed, of all runs."""
        folder = fs.FileSelector(f"{self._path}/{PARTS}/{_FAILED}", allow_not_found=True)
        lines: list[str] = []
        for info in sorted(self.filesystem.get_file_info(folder), key=lambda info: info.path):
            with self.filesystem.open_input_stream(info.path) as stream:
                text = stream.read().decode()
            lines += [json.loads(line)["failure"] for line in text.splitlines()]
        return sorted(lines)


@dataclass(frozen=True)
class _Written:
    pictures: int
    faces: int


class FacesSink(BlockBasedFileDatasink):
    """Writes the faces of about ``per_file`` pictures to a file, and what failed to another one.

    File names are those that Ray derives from its write task. So a task that is repeated replaces
    its own files, and the recovery finds files that were not committed. ``pictures`` and ``faces``
    are counted when the job ends.
    """

    def __init__(self, place: Output, name_column: str, per_file: int) -> None:
        super().__init__(
            place.parts,
            filesystem=place.filesystem,
            file_format="parquet",
            min_rows_per_file=per_file,
        )
        self._name_column = name_column
        self.pictures = self.faces = 0

    def write(self, blocks: Iterable[Any], ctx: Any) -> Any:
        """Writes the blocks of one task."""
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        tables = [rows for rows in tables if len(rows)]  # Ray's empty blocks have no columns
        name = self.filename_provider.get_filename_for_task(
            ctx.kwargs[WRITE_UUID_KWARG_NAME], ctx.task_idx
        )
        streams = [s for rows in tables for s in rows[FACES].to_pylist() if s is not None]
        faces = [pa.ipc.open_stream(stream).read_all() for stream in streams]
        if faces:
            self._whole(name, lambda path: self._write_faces(pa.concat_tables(faces), path))
        lines = [
            json.dumps({"source": str(source), "failure": failure})
            for rows in tables
            for source, failure in zip(
                rows[self._name_column].to_pylist(), rows[FAILURE].to_pylist(), strict=True
            )
            if failure is not None
        ]
        if lines:
            stem = f"{_FAILED}/{posixpath.splitext(name)[0]}.jsonl"
            self._whole(stem, lambda path: self._write_lines(lines, path))
        return _Written(sum(len(rows) for rows in tables), sum(len(rows) for rows in faces))

    def _whole(self, name: str, write: Any) -> None:
        """Writes a file under another name and moves it to its own."""
        unfinished = posixpath.join(self.path, _UNFINISHED, posixpath.basename(name))
        write(unfinished)
        self.filesystem.move(unfinished, posixpath.join(self.path, name))

    def _write_faces(self, faces: Any, path: str) -> None:
        with (
            self.open_output_stream(path) as stream,
            pq.ParquetWriter(
                stream, faces.schema, compression="zstd", use_dictionary=["source"]
            ) as writer,
        ):
            writer.write_table(faces)
            writer.add_key_value_metadata({VERSION_KEY: VERSION})

    def _write_lines(self, lines: list[str], path: str) -> None:
        with self.open_output_stream(path) as stream:
            stream.write("".join(f"{line}\n" for line in lines).encode())

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        """Counts what was written."""
        for written in write_result.write_returns:
            if written is not None:
                self.pictures += written.pictures
                self.faces += written.faces
