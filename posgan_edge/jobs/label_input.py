"""What is labelled: picture files, Parquet tables with pictures, WebDataset archives."""

from __future__ import annotations

import glob
import lzma
import os
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posgan_edge.errors import BadInput, one_line
from posgan_edge.jobs.columns import load_pyarrow
from posgan_edge.live.sources.base import is_web
from posgan_edge.live.sources.pictures import PICTURES, Picture, expanded, is_picture

#: Pictures of one block of names at most.
_NAMES = 1024


@dataclass(frozen=True)
class Pictures:
    """Pictures in files, archives or at addresses, with absolute paths. The actors read them."""

    pictures: list[Picture]
    name_column = "source"
    bytes_column = None

    def __len__(self) -> int:
        return len(self.pictures)

    def dataset(self, ray: Any, batch: int, actors: int) -> Any:
        """Returns a dataset of the names, in blocks of whole batches."""
        from posgan_edge.jobs.label_names import Names

        # Small enough that all actors work to the end, large enough that blocks cost nothing.
        each = max(1, min(_NAMES, len(self) // (4 * actors)) // batch) * batch
        return ray.data.read_datasource(Names(self.pictures, each), num_cpus=0)


@dataclass(frozen=True)
class Tables:
    """Files with many pictures each: ``kind`` is "Parquet files" or "WebDataset archives"."""

    kind: str
    files: list[str]
    name_column: str
    bytes_column: str

    def dataset(self, ray: Any, batch: int, actors: int) -> Any:
        """Returns a dataset of names and bytes."""
        columns = [self.name_column, self.bytes_column]
        if self.kind == PARQUET:
            return ray.data.read_parquet(self.files, columns=columns, num_cpus=0)
        return ray.data.read_webdataset(self.files, decoder=_picture, num_cpus=0)


PARQUET, WEBDATASET = "Parquet files", "WebDataset archives"
_KINDS = {".parquet": PARQUET, ".tar": WEBDATASET}


def find_input(source: str, columns: tuple[str, str] = ("path", "bytes")) -> Pictures | Tables:
    """Returns what an input names.

    Pictures: a picture, a folder, a pattern, a list (@list.txt) or a zip archive, as for ``run``; a
    file named twice counts once. Tables: a .parquet or .tar file, a folder of them or a pattern;
    ``columns`` are those of a picture's name and of its bytes. Also an address that pyarrow can
    list (``s3://bucket/folder``). Raises BadInput if nothing is there, or for a table without these
    columns.
    """
    if "://" in source and not is_web(source):
        found = [Picture(name, "") for name in _listed(source)]
    else:
        found = [
            # Processes of a cluster have other working folders.
            picture
            if is_web(picture.path)
            else replace(picture, path=os.path.abspath(picture.path))
            for picture in _local(source)
        ]
    for suffix, kind in _KINDS.items():
        if files := [p.path for p in found if Path(p.path).suffix.lower() == suffix]:
            if kind == PARQUET:
                _check_columns(files[0], columns)
                return Tables(kind, files, *columns)
            for name in files:
                _check_archive(name)
            return Tables(kind, files, "source", "bytes")
    return Pictures(list({picture.name: picture for picture in found}.values()))


def _local(source: str) -> list[Picture]:
    """Tables, or else pictures."""
    if os.path.isdir(source):
        inside = [os.path.join(source, name) for name in sorted(os.listdir(source))]
    elif glob.has_magic(source) and not os.path.exists(source):
        inside = sorted(glob.glob(source, recursive=True))
    else:
        inside = [source]
    if tables := [name for name in inside if Path(name).suffix.lower() in _KINDS]:
        return [Picture(name, "") for name in tables if _is_there(name)]
    if not is_picture(source):
        raise BadInput(
            f"{source}: give pictures, a folder, a pattern, @list.txt, .zip, .parquet or .tar files"
        )
    found = expanded(source)
    if len(found) == 1 and not is_web(source):
        _is_there(found[0].path)
    return found


def _check_archive(name: str) -> None:
    """Raises BadInput if a file on this machine does not begin as a tar archive does."""
    if "://" in name:
        return
    try:
        with tarfile.open(name) as archive:
            archive.next()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{name}: not a tar archive, or a damaged one: {one_line(error)}") from error


def _is_there(name: str) -> bool:
    """Returns True. Raises BadInput if there is no such file."""
    if not os.path.exists(name):
        raise BadInput(f"{name}: no such file")
    return True


def _listed(address: str) -> list[str]:
    """Addresses of all tables or pictures at and below an address."""
    filesystem, path = filesystem_of(address)
    fs = load_pyarrow().fs
    scheme = address.partition("://")[0]
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.Directory:
            infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        else:
            infos = [info]
    except OSError as error:
        raise BadInput(f"{address}: cannot be listed: {one_line(error)}") from error
    kinds = PICTURES | set(_KINDS)
    names = sorted(
        f"{scheme}://{info.path}"
        for info in infos
        if info.type == fs.FileType.File and Path(info.path).suffix.lower() in kinds
    )
    if not names:
        raise BadInput(f"{address}: no pictures, .parquet or .tar files there")
    return names


def filesystem_of(name: str) -> tuple[Any, str]:
    """Returns pyarrow's file system and the path in it, for an address or a local path.

    Raises BadInput for an address of no kind that pyarrow knows.
    """
    arrow = load_pyarrow()
    if "://" not in name:
        return arrow.fs.LocalFileSystem(), os.path.abspath(name)
    try:
        filesystem, path = arrow.fs.FileSystem.from_uri(name)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise BadInput(f"{name}: no address that can be used: {one_line(error)}") from error
    return filesystem, str(path)


def _check_columns(file: str, columns: tuple[str, str]) -> None:
    arrow = load_pyarrow()
    filesystem, path = filesystem_of(file)
    try:
        there = arrow.parquet.read_schema(path, filesystem=filesystem)
    except (OSError, arrow.ArrowException) as error:
        raise BadInput(f"{file}: not a Parquet file that can be read: {one_line(error)}") from error
    kinds = arrow.types
    wanted = (
        ("names", (kinds.is_string, kinds.is_large_string)),
        ("bytes of pictures", (kinds.is_binary, kinds.is_large_binary)),
    )
    for column, (what, fits) in zip(columns, wanted, strict=True):
        if column not in there.names or not any(fit(there.field(column).type) for fit in fits):
            found = ", ".join(f"{field.name} {field.type}" for field in list(there)[:6])
            raise BadInput(f"{file}: no column {column!r} with {what} (columns: {found})")


def _picture(sample: dict[str, Any]) -> dict[str, Any]:
    """The name and bytes of a WebDataset sample; without a picture, bytes are empty."""
    for suffix, data in sample.items():
        if f".{suffix.rpartition('.')[2].lower()}" in PICTURES:
            return {"source": f"{sample['__url__']}/{sample['__key__']}.{suffix}", "bytes": data}
    return {"source": f"{sample['__url__']}/{sample['__key__']}", "bytes": b""}
