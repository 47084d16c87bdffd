"""Pictures, folders, patterns, lists, zip archives and web addresses of pictures as a source."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, PosganError, picture_failure
from posgan_edge.files import is_temporary, read_names
from posgan_edge.images import LARGEST_FILE, decode_image, read_image
from posgan_edge.live.sources.base import Source, is_web, shown
from posgan_edge.live.sources.zips import ZipPictures, inside

#: Suffixes of pictures. OpenCV may not read all those of the second line; a picture that it cannot
#: read is reported.
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
PICTURES |= {".jp2", ".avif", ".heic", ".heif", ".jxl"}
#: Files that are pictures inside a folder; given by name, they are videos.
_MOVING = frozenset((".gif",))
_ZIP = ".zip"
#: Folders of zip archives with what is no picture.
_HIDDEN = ("__MACOSX",)


@dataclass(frozen=True)
class Picture:
    """A picture file, or a file in the zip archive ``path`` (``member``), or a web address.

    Outputs keep its path below ``root``.
    """

    path: str
    root: str
    member: str = ""

    @property
    def name(self) -> str:
        """The name for people and records; a password in an address is not in it."""
        if is_web(self.path):
            return shown(self.path)
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def place(self) -> Path:
        """The path below ``root``."""
        if is_web(self.path):
            return Path(self.whole.name)
        return inside(self.member) if self.member else Path(os.path.relpath(self.path, self.root))

    @property
    def whole(self) -> Path:
        """The path from the root of all pictures."""
        if is_web(self.path):
            return "/" / inside(re.split("[?#]", shown(self.path))[0].partition("://")[2])
        return Path(os.path.abspath(self.path)) / inside(self.member)


def is_picture(uri: str) -> bool:
    """Whether a source is a picture by its name; or a folder, pattern, list or zip archive of
    pictures. A web address with a query (``?``) may be a camera, and is none by its name."""
    path = Path(uri)
    if os.path.isdir(uri) or uri.startswith("@"):
        return True
    if is_web(uri):
        below = uri.partition("://")[2].partition("#")[0].partition("/")[2]
        return "?" not in below and Path(below).suffix.lower() in PICTURES
    if "%" in uri or "://" in uri or uri.startswith(("synthetic:", "synthetic?")):
        return False
    suffix = path.suffix.lower()
    pattern = glob.has_magic(path.name) and not os.path.exists(uri)
    return suffix in (*PICTURES, _ZIP) or (pattern and (not suffix or glob.has_magic(suffix)))


def pictures_of(uri: str) -> list[str]:
    """A picture or web address; those in and below a folder, or in a zip archive, by name; those
    that a pattern (``photos/**/*.jpg``) matches; or those that a list names (``@list.txt``, one
    path a line). Raises BadInput if there are none, or if a folder cannot be read.
    """
    return [picture.name for picture in expanded(uri)]


def expanded(uri: str, notify: Callable[[str], None] | None = None) -> list[Picture]:
    """``pictures_of``, each with its ``root``. With ``notify``, a folder below another one that
    cannot be read is left out, and ``notify`` is called with one line."""
    if is_web(uri):
        return [Picture(uri, "")]
    path = Path(uri)
    if uri.startswith("@"):
        names = read_names(Path(uri[1:])) or []
        if any(name.startswith("@") for name in names):
            raise BadInput(f"{uri[1:]}: names another list")
        return [one for name in names for one in expanded(name, notify)]
    if os.path.isdir(uri):
        found = [name for name in _below(path, notify) if _looks_like_one(Path(name))]
        if not found:
            raise BadInput(f"{uri}: no pictures in this folder")
        return [Picture(name, uri) for name in sorted(found)]
    if glob.has_magic(uri) and not os.path.exists(uri):
        root = Path(uri)
        while glob.has_magic(str(root)):
            root = root.parent
        names = sorted(glob.glob(uri, recursive=True))
        if path.suffix.lower() == _ZIP:
            pictures = [picture for name in names for picture in _zipped(name)]
        else:
            pictures = [Picture(n, str(root)) for n in names if _looks_like_one(Path(n))]
        if not pictures:
            raise BadInput(f"{uri}: matches no pictures")
        return pictures
    if path.suffix.lower() == _ZIP:
        return _zipped(uri)
    return [Picture(uri, str(path.parent))]


def _below(folder: Path, notify: Callable[[str], None] | None) -> Iterator[str]:
    """Files in a folder and below it. Hidden folders are left out, as by ``**`` in a pattern; a
    folder that several links lead to is looked at once."""

    def fail(error: OSError) -> None:
        line = f"{error.filename}: cannot be read ({error.strerror})"
        if notify is None or error.filename == str(folder):
            raise BadInput(line) from error
        notify(line)

    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(str(folder), onerror=fail, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (str(Path(place, name)) for name in names)


def _looks_like_one(path: Path) -> bool:
    known = path.suffix.lower() in PICTURES | _MOVING
    return known and not path.is_dir() and not is_temporary(path)


def _zipped(path: str) -> list[Picture]:
    with ZipPictures(path) as archive:
        names = sorted(name for name in archive.members if inside(name).parts)
    found = [
        Picture(path, path, name) for name in names
        if inside(name).suffix.lower() in PICTURES | _MOVING
        and inside(name).parts[0] not in _HIDDEN
    ]  # fmt: skip
    if not found:
        raise BadInput(f"{path}: no pictures in this archive")
    return found


class PictureReader(Closing):
    """Reads pictures from files, archives and web addresses. A context manager."""

    def __init__(self) -> None:
        self._archive: ZipPictures | None = None

    def read(self, picture: Picture) -> Image:
        """The picture (H, W, 3) uint8 BGR. Raises BadInput if it cannot be read."""
        if picture.member:
            data = self._opened(picture.path).read(picture.member, LARGEST_FILE)
        elif is_web(picture.path):
            from posgan_edge.live.sources.web import fetch

            data = fetch(picture.path)
        else:
            return read_image(picture.path)
        return decode_image(np.frombuffer(data, np.uint8), picture.name)

    def _opened(self, path: str) -> ZipPictures:
        if self._archive is None or self._archive.path != path:
            self.close()
            self._archive = ZipPictures(path)
        return self._archive

    def close(self) -> None:
        """Closes the archive that is open. The reader can be used again."""
        if self._archive is not None:
            self._archive.close()
            self._archive = None


class PicturesSource(Source):
    """Picture files one after the other, each in its own size.

    A picture that cannot be read is left out, and ``notify`` is called with one line. A frame's
    ``index`` is the picture's index in ``pictures``, its ``name`` the picture's. ``first`` is the
    index of the first picture that is read.
    """

    still = True
    rate = 1.0

    def __init__(
        self,
        pictures: Sequence[Picture],
        notify: Callable[[str], None] = lambda _: None,
        first: int = 0,
    ) -> None:
        self.pictures, self._notify = list(pictures), notify
        self.name = self.pictures[0].name if len(self.pictures) == 1 else "pictures"
        self.frames_promised = len(self.pictures)
        self._first = self._next = first
        self._reader = PictureReader()

    def open(self) -> None:
        """Begins with the first picture."""
        self._next = self._first

    def read(self, into: Image | None = None) -> Image | None:
        """See ``Source``; ``into`` is not used."""
        while self._next < len(self.pictures):
            picture = self.pictures[self._next]
            self._next += 1
            try:
                return self._reader.read(picture)
            except (PosganError, MemoryError) as error:
                self._notify(picture_failure(picture.name, error))
        return None

    def label(self, count: int) -> tuple[int, str]:
        """See ``Source``."""
        return self._next - 1, self.pictures[self._next - 1].name

    def close(self) -> None:
        """See ``Source``."""
        self._reader.close()

    def files(self) -> list[str | int]:
        """See ``Source``."""
        return [*{picture.path: None for picture in self.pictures if not is_web(picture.path)}]


def targets(pictures: Sequence[Picture], folder: Path, suffix: str | None) -> list[Path]:
    """A file in ``folder`` for each picture, with a suffix or (None) the picture's own.

    A picture keeps its path below the folder that was given. If two files would have the same name,
    all keep their path below their common folder; pictures of one folder that differ in the suffix
    alone (``a.jpg``, ``a.png``) get it as a part of the name: ``a-jpg``.
    """

    def made(places: list[Path]) -> list[Path]:
        named = [place if place.name else Path("picture") for place in places]
        return [folder / place.with_suffix(suffix or place.suffix) for place in named]

    places = [picture.place for picture in pictures]
    files = made(places)
    if len(set(files)) < len(files):
        paths = [picture.whole for picture in pictures]
        common = os.path.commonpath([path.parent for path in paths])
        places = [path.relative_to(common) for path in paths]
        files = made(places)
    met = Counter(files)
    return [
        file if met[file] == 1 else file.with_stem(f"{file.stem}-{place.suffix[1:]}")
        for file, place in zip(files, places, strict=True)
    ]
