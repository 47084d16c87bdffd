"""Lists of names; writing files so that nothing half-written is left under its final name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posgan_edge.errors import BadInput


def check_writable(path: str | Path) -> Path:
    """The path, once its folder exists and can be written; raises BadInput otherwise."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path}: its folder cannot be made ({error.strerror})") from error
    if path.is_dir():
        raise BadInput(f"{path}: is a folder, a file name is needed")
    probe = temporary_name(path)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from error
    return path


def temporary_name(path: Path) -> Path:
    """A hidden sibling of ``path`` with the same suffix, for writing before renaming."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling path and renames it to ``path`` when the block succeeds."""
    target = check_writable(path)
    temporary = temporary_name(target)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
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
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as a list of names: {error}") from error
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
