"""The names of a run's output files, and checks that none replaces another file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.faces.values import Face, Frame
from posgan_edge.files import check_writable
from posgan_edge.images import IMAGE_SUFFIXES
from posgan_edge.live.sinks.journal import Journal
from posgan_edge.live.sources.pictures import Picture, targets
from posgan_edge.render.meshes import mesh_files


class Outputs:
    """The files that the sinks of one run write.

    ``sources`` are the files (or descriptors) that the run reads. They are never written, also not
    through a symbolic or hard link. Two outputs never share a file. With ``overwrite`` False, no
    existing file is replaced. ``pictures``: the pictures that the run reads, if it reads single
    pictures; files are then named after them, otherwise by the frame's number. ``journal``: says
    how far the run is; files of a resumed run are its own and may be replaced.
    """

    def __init__(
        self,
        sources: Iterable[str | Path | int] = (),
        overwrite: bool = True,
        pictures: Sequence[Picture] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.overwrite = overwrite or (journal is not None and journal.resumed)
        self.pictures, self.journal = pictures, journal
        self._sources: set[tuple[int, int]] = set()
        self._claimed: set[Path] = set()
        for source in sources:
            with suppress(OSError, ValueError):
                status = os.stat(source)
                self._sources.add((status.st_dev, status.st_ino))

    @property
    def folders(self) -> set[Path]:
        """The folders of all files that were reserved."""
        return {path.parent for path in self._claimed}

    @property
    def guarded(self) -> bool:
        """Whether there are files that must not be written."""
        return bool(self._sources) or not self.overwrite

    def check(self, path: Path) -> None:
        """Raises UsageError if a path must not be written: a source, not a regular file, or an
        existing file."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            there = os.path.lexists(path)
        else:
            if (status.st_dev, status.st_ino) in self._sources:
                raise UsageError(f"{path}: is a source or another output: give another name")
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise UsageError(f"{path}: is a device or a pipe, not a file")
            there = not stat.S_ISDIR(status.st_mode)
        if there and not self.overwrite:
            raise UsageError(f"{path}: already exists", "overwrite")

    def claim(self, path: str | Path) -> Path:
        """Reserves a path for one output and returns it. Raises as ``check``, and UsageError if
        another output has reserved it."""
        path = Path(path)
        self.check_free(path)
        self._claimed.add(_place(path))
        return path

    def check_free(self, path: Path) -> None:
        """Raises as ``check``, and UsageError if another output has reserved the path."""
        self.check(path)
        if _place(path) in self._claimed:
            raise UsageError(f"{path}: is a source or another output: give another name")

    def part(self, names: Iterable[Path]) -> Outputs:
        """For another process: outputs that have reserved only those names, and replace files."""
        part = Outputs()
        part._claimed = {_place(name) for name in names} & self._claimed
        return part

    def series(
        self, path: str | Path, suffixes: Sequence[str], default: str, per_face: bool
    ) -> Series:
        """The file names of an output that writes a file for each frame, or for each face of it.

        ``path`` is a folder (names as ``default``) or FOLDER/name with one of ``suffixes``; for a
        single picture also the file itself. Raises UsageError for another suffix and as ``claim``,
        BadInput if nothing can be written there.
        """
        return Series(self, Path(path), suffixes, default, per_face)


class Series:
    """The file names of one output; see ``Outputs.series``.

    For a video: ``name-000007.ext`` for frame 7, ``name-000007-2.ext`` for its face with id 2. For
    pictures (``by_picture``): the picture's name, with ``-ID`` if it has several faces. ``name`` is
    the file that was asked for, without numbers.
    """

    def __init__(
        self, outputs: Outputs, path: Path, suffixes: Sequence[str], default: str, per_face: bool
    ) -> None:
        self._outputs, self._per_face = outputs, per_face
        self.by_picture = outputs.pictures is not None
        self.name = path if _is_file(path) else path / default
        if self.name.suffix.lower() not in suffixes:
            kinds = ", ".join(suffixes)
            if self.by_picture:
                raise UsageError(f"{path}: unknown file type: use {kinds}")
            raise UsageError(f"{path}: give a folder, or FOLDER/name with {kinds}")
        if "%" in self.name.name and not self.by_picture:
            raise UsageError(f"{path}: give a folder; files are numbered by themselves")
        self._targets: dict[int, Path] = {}
        if outputs.pictures is not None:
            self._targets = dict(enumerate(self._pictures(path, outputs.pictures)))
        for name in self._planned():
            outputs.claim(name)
        if outputs.guarded:
            for there in self._there():
                outputs.check(there)
        check_writable(self._targets[0] if self._targets else self.name)

    def target(self, index: int) -> Path:
        """The file of the picture with that index."""
        return self._targets[index]

    def place(self, index: int, target: Path) -> None:
        """Sets the file of a picture, the only one that is known from now on."""
        self._targets = {index: target}

    def __getstate__(self) -> dict[str, Any]:
        """The names for another process, which gets each picture's file by ``place``."""
        # Names that may be met if a face's number is added to another name.
        numbered = [
            name for target in self._targets.values() for name in mesh_files(target)
            if re.search(r"-\d+(_uv)?$", name.stem)
        ]  # fmt: skip
        return self.__dict__ | {"_targets": {}, "_outputs": self._outputs.part(numbered)}

    def file(self, frame: Frame, face: Face | None = None, alone: bool = True) -> Path:
        """The file for a frame, or for one of its faces; ``alone``: it is the only one.

        Raises BadInput if another picture's file has that name.
        """
        if not self.by_picture:
            which = "" if face is None else f"-{face.id}"
            return self.name.with_stem(f"{self.name.stem}-{frame.index:06d}{which}")
        target = self._targets[frame.index]
        if face is None or alone:
            return target
        target = target.with_stem(f"{target.stem}-{face.id}")
        try:
            for name in mesh_files(target):
                self._outputs.check_free(name)
        except UsageError as error:
            raise BadInput(str(error)) from error
        return target

    def _pictures(self, path: Path, pictures: Sequence[Picture]) -> list[Path]:
        if _is_file(path):
            if len(pictures) > 1:
                raise UsageError(f"{path}: names one file; many pictures need a folder")
            return [path] * len(pictures)
        suffix = None if not self._per_face else self.name.suffix
        files = targets(pictures, path, suffix)
        return [
            file if file.suffix.lower() in IMAGE_SUFFIXES or suffix else file.with_suffix(".png")
            for file in files
        ]

    def _planned(self) -> Iterator[Path]:
        """All names that are known in advance; numbered files are represented by one name."""
        stands = self.name.with_stem(f"{self.name.stem}-%06d" + "-%d" * self._per_face)
        for target in self._targets.values() if self.by_picture else [stands]:
            yield from mesh_files(target)

    def _there(self) -> Iterator[Path]:
        """Existing files with a name that the run may write."""
        number = r"-\d{6,}" if not self.by_picture else ""
        face = r"-\d+" if self._per_face else ""
        numbers = re.compile(number + face + r"(?=(_uv)?\.[^.]+$)")
        names: dict[Path, set[str]] = {}
        for target in self._targets.values() if self.by_picture else [self.name]:
            names.setdefault(target.parent, set()).update(f.name for f in mesh_files(target))
        for folder in filter(os.path.isdir, names):
            for entry in sorted(os.listdir(folder)):
                plain = numbers.sub("", entry)
                if plain != entry and plain in names[folder]:
                    yield folder / entry


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path.parent)) / path.name


def _is_file(path: Path) -> bool:
    return bool(path.suffix) and not os.path.isdir(path)
