"""The journal of a run over many pictures, from which an interrupted run continues."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import check_writable

try:
    import fcntl
except ImportError:  # Windows: two runs into one file are not noticed
    fcntl = None  # type: ignore[assignment]

#: Names of ``files.temporary_name``, with the process that made the file.
_TEMPORARY = re.compile(r"\..*\.(\d+)\.part(\.[^.]*)?")


@dataclass(frozen=True)
class Done:
    """How far a run is: all pictures before ``next``. Of them ``processed`` could be read, and
    ``with_face`` have a face; the others failed."""

    next: int = 0
    processed: int = 0
    with_face: int = 0

    def after(self, index: int, read: bool, face: bool) -> Done:
        """How far the run is once the picture at ``index`` is done too. ``read``: it could be read;
        ``face``: it has a face."""
        return Done(index + 1, self.processed + read, self.with_face + face)


class Journal(Closing):
    """A file that says which pictures of a run are done, and how long each output was then.

    ``path`` is the journal's file, ``run`` what must not change when the run is resumed. The first
    line of the file holds ``run``. A line ``[next, processed, with_face, size, ...]`` follows after
    each picture, with the sizes of the streams. ``resume``: continue an unfinished run, if there
    is one. ``notify`` is called with one line if the journal itself cannot be written.

    Raises UsageError if an unfinished run is there that is neither resumed nor overwritten, or that
    was another run; BadInput if another process has the journal open, or if it cannot be used.

    A context manager. ``finish`` says that the run is complete; the journal is then removed when it
    is closed, with the collected records. Otherwise both are kept, if any picture is done.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.done, self._notify = check_writable(path), Done(), notify
        self._run = dict(run)
        self._sizes: list[int] = []
        self._streams: list[BinaryIO] = []
        self._kept: list[Path] = []
        self._processes: set[int] = set()
        self._folders: set[Path] = set()
        self._finished = self._stuck = False
        try:
            # Appending creates the file, and changes nothing in one that another run has open.
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror})") from error
        try:
            self._lock()
            before = self._read()
            if resume and before:
                self._compare(before)
            elif before and not overwrite:
                raise UsageError(f"{path}: an unfinished run is there", "resume", "overwrite")
            else:
                self._restart()
        except BaseException:
            self._file.close()
            raise
        #: Whether pictures of an earlier run are done.
        self.resumed = self.done.next > 0

    def stream(self, path: Path, kept: Path, renamed: bool) -> BinaryIO:
        """Opens ``kept``, in which the records of the output ``path`` are collected, for appending.

        What was written after the last picture that is done is cut off. ``renamed``: the file is
        renamed to ``path`` at the end, and back if the run is resumed. Raises BadInput if records
        are missing.
        """
        number = len(self._streams)
        size = self._sizes[number] if number < len(self._sizes) else 0
        try:
            if size and renamed and not kept.exists() and path.exists():
                os.replace(path, kept)
            there = kept.stat().st_size if size and kept.exists() else 0
            if there < size:
                raise BadInput(
                    f"{path}: cannot be resumed: {kept} has {there} of {size} bytes: "
                    "begin the run again"
                )
            stream = open(kept, "r+b" if size else "wb", buffering=0)  # noqa: SIM115
            stream.truncate(size)
            stream.seek(size)
        except OSError as error:
            raise BadInput(f"{kept}: cannot be written ({error.strerror})") from error
        self._streams.append(stream)
        self._kept.append(kept)
        return stream

    def begin(self, folders: Iterable[Path]) -> None:
        """Called once all streams are open; ``folders`` are those of the outputs. Removes what
        killed processes of the run have left half-written in them."""
        self._folders = {Path(os.path.realpath(folder)) for folder in folders}
        self._sweep()
        if not self.resumed:
            self._restart()
            self._append(self._run)
        self.note_process(os.getpid())

    def note_process(self, number: int) -> None:
        """Notes a process that writes files of the run."""
        self._processes.add(number)
        self._append({"process": number})

    def commit(self, done: Done) -> None:
        """Notes that all pictures before ``done.next`` are done and everything of them is
        written."""
        sizes = [stream.tell() for stream in self._streams]
        self._append([done.next, done.processed, done.with_face, *sizes])
        if not self._stuck:
            self.done = done

    def finish(self) -> None:
        """Says that the run is complete."""
        self._finished = True

    def close(self) -> None:
        """Closes the journal. A second call does nothing."""
        if self._file.closed:
            return
        self._sweep()
        if self._finished or not self.done.next:
            # The journal goes first: without it the rest means nothing.
            for path in (self.path, *self._kept):
                path.unlink(missing_ok=True)
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"{self.path}: another run is writing there") from error
        except OSError:  # a file system without locks
            return

    def _sweep(self) -> None:
        """Removes files that killed processes of the run have left half-written."""
        for folder in self._folders:
            with suppress(OSError):
                for name in os.listdir(folder):
                    match = _TEMPORARY.fullmatch(name)
                    if match and int(match[1]) in self._processes:
                        (folder / name).unlink()

    def _restart(self) -> None:
        self._file.truncate(0)
        self.done, self._sizes = Done(), []

    def _read(self) -> dict[str, Any]:
        """Reads how far an unfinished run is. Returns what it is; empty if there is none."""
        last, whole = b"", 0
        try:
            with open(os.dup(self._file.fileno()), "rb") as lines:
                lines.seek(0)
                header = lines.readline()
                for line in lines:
                    if not line.endswith(b"\n"):  # the process was killed within a line
                        break
                    if line.startswith(b"{"):
                        self._processes.add(int(json.loads(line)["process"]))
                    else:
                        last = line
                    whole += len(line)
            if not last:
                return {}
            run, numbers = dict(json.loads(header)), [int(value) for value in json.loads(last)]
            if min(numbers, default=0) < 0:
                raise ValueError("a number below zero")
            self.done, self._sizes = Done(*numbers[:3]), numbers[3:]
        except (
            OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise BadInput(f"{self.path}: is no journal of a run: remove it") from error
        self._file.truncate(len(header) + whole)
        return run

    def _compare(self, run: dict[str, Any]) -> None:
        for name, value in json.loads(json.dumps(self._run)).items():
            if run.get(name) != value:
                raise UsageError(
                    f"{self.path}: the unfinished run had {name} {_said(run.get(name))}, now "
                    f"{_said(value)}: give the same",
                    "overwrite",
                )

    def _append(self, entry: object) -> None:
        if self._stuck:
            return
        whole = os.fstat(self._file.fileno()).st_size
        data = json.dumps(entry).encode() + b"\n"
        try:
            if self._file.write(data) == len(data):
                return
            reason = "no space left"
        except OSError as error:
            reason = str(error.strerror)
        self._stuck = True
        with suppress(OSError):
            self._file.truncate(whole)
        self._notify(
            f"{self.path}: cannot be written ({reason}): a resumed run continues after picture "
            f"{self.done.next}"
        )


def _said(value: object) -> str:
    return "none" if value is None else str(value)
