"""Reading regular files of a limited size; writing files so that nothing half-written is left."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from posgan_edge.errors import BadInput, UsageError

#: Largest list of names that is read, in bytes.
_NAMES_LIMIT = 16 << 20


def as_path(value: object, name: str = "path") -> Path:
    """A path from a string or a path. Raises BadInput for anything else."""
    if not isinstance(value, (str, os.PathLike)):
        raise BadInput(f"{name} is a {type(value).__name__}: give a string or a Path")
    return Path(value)


def read_limited(path: str | Path, limit: int) -> bytes:
    """The bytes of a regular file. Raises BadInput for anything else (a folder, a pipe, a
    device) and for more than ``limit`` bytes; nothing blocks and no more than that is read.
    """
    try:
        # Opening a pipe would wait for its other end without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError, TypeError) as error:  # TypeError: not a path
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path}: cannot be read: {reason}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        reason = os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "not a regular file"
        raise BadInput(f"{path}: cannot be read: {reason}")
    try:
        with open(descriptor, "rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise BadInput(f"{path}: is larger than {limit >> 20} MiB")
    return data


def check_writable(path: str | Path) -> Path:
    """The path, once its folder exists and can be written; raises BadInput otherwise, and for what
    is no regular file: a folder, a device, a pipe, or a place in /dev."""
    path = Path(path)
    if _is_special(path):
        raise BadInput(f"{path}: is a device or a pipe, not a file: give a file name")
    try:
        os.makedirs(path.parent, exist_ok=True)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: its folder cannot be made ({reason})") from error
    if os.path.isdir(path):
        raise BadInput(f"{path}: is a folder, a file name is needed")
    probe = temporary_name(path)
    try:
        with uninterrupted():
            probe.touch()
            probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be written ({reason})") from error
    return path


def check_output(path: str | Path, mark: bytes) -> Path:
    """``check_writable`` for a file that a command makes again when it is called again.

    Raises UsageError if another file is there: one that is not empty and does not hold ``mark``,
    which every such output holds.
    """
    path = check_writable(path)
    if os.path.lexists(path) and not _holds(path, mark):
        raise UsageError(
            f"{path}: already exists, and not from an earlier call of this command: give another "
            "name, or remove it"
        )
    return path


def _holds(path: Path, mark: bytes) -> bool:
    """Whether a file is empty or holds these bytes."""
    try:
        with open(path, "rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                return True
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(mark) >= 0
    except OSError:
        return False


def _is_special(path: Path) -> bool:
    """Whether writing a file would replace a device, a pipe, or a link in /dev."""
    with suppress(OSError, ValueError):  # ValueError: a null byte
        if os.path.realpath(path.parent) == "/dev":
            return True
        mode = os.stat(path).st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


def is_utf8(path: str | Path) -> bool:
    """Whether a path can be given to libraries that take UTF-8 alone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def temporary_name(path: Path) -> Path:
    """A hidden sibling of ``path`` with the same suffix, for writing before renaming."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def is_temporary(path: Path) -> bool:
    """Whether a file has a name of ``temporary_name``: a process that was killed has left it."""
    return re.fullmatch(r"\..+\.part(\.\w+)*", path.name) is not None


@contextmanager
def uninterrupted() -> Iterator[list[int]]:
    """Holds SIGINT and SIGTERM back while the block runs, and delivers the first one afterwards.

    Yields the list of those that came. For short steps that must not be done by halves. In other
    threads, which no signal interrupts, it does nothing.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            # None: a handler that is not Python's, which Python cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def scratch_folder(prefix: str = "posgan-edge-", inside: Path | None = None) -> Iterator[str]:
    """Yields a new folder for files of this process alone, and removes it afterwards.

    It is made ``inside`` a folder, or in the system's place for temporary files. A signal at any
    moment leaves no folder behind.
    """
    folder = None
    try:
        with uninterrupted():
            folder = tempfile.mkdtemp(prefix=prefix, dir=inside)
        yield folder
    finally:
        if folder is not None:
            with uninterrupted():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling path and renames it to ``path`` when the block succeeds.

    Raises BadInput if it cannot be written; what was at ``path`` then stays.
    """
    with replaced_together([path]) as (temporary,):
        yield temporary


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Writes a file through ``replaced``; text as UTF-8."""
    with replaced(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replaced_together(paths: Sequence[str | Path]) -> Iterator[list[Path]]:
    """As ``replaced`` for a file and those that describe it, which come after it in ``paths``.

    The file is replaced last: a process that is killed in between leaves the old file with the
    description of a new one, which readers refuse, or the description alone. If the block does not
    make a description, there is none afterwards.
    """
    targets = [check_writable(path) for path in paths]
    temporaries = [temporary_name(target) for target in targets]
    try:
        yield temporaries
        with uninterrupted():
            for target, temporary in reversed([*zip(targets, temporaries, strict=True)]):
                if target is targets[0] or temporary.exists():
                    os.replace(temporary, target)
                else:
                    target.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{targets[0]}: cannot be written ({error.strerror or error})") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_names(path: Path | None) -> list[str] | None:
    """Names from a file, one per line, '#' starts a comment; raises BadInput where none are."""
    if path is None:
        return None
    try:
        text = read_limited(path, _NAMES_LIMIT).decode()
    except (BadInput, UnicodeDecodeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BadInput(f"{path}: cannot be read as a list of names: {reason}") from error
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    if not any(lines):
        raise BadInput(f"{path}: holds no names")
    return [line for line in lines if line]


def private_cache(*parts: str) -> Path:
    """A folder of this user's cache that nobody else may write to; it may hold native code.

    Raises BadInput where it cannot be made, or belongs to somebody else.
    """
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(root, "posgan-edge", *parts)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise BadInput(f"{folder}: the cache cannot be used ({error.strerror})") from error
    return folder
