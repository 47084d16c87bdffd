"""Pictures, folders, patterns and lists of pictures as a source."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.files import read_names
from posgan_edge.images import read_image
from posgan_edge.live.sources.base import Source

#: Suffixes of pictures. OpenCV may not read all those of the second line; a picture that it cannot
#: read is reported.
_PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
_PICTURES |= {".jp2", ".avif", ".heic", ".heif", ".jxl"}
#: Files that are pictures inside a folder; given by name, they are videos.
_MOVING = frozenset((".gif",))


@dataclass(frozen=True)
class Picture:
    """A picture file. Outputs keep its path below ``root``."""

    path: str
    root: str

    @property
    def place(self) -> Path:
        """The path below ``root``."""
        return Path(os.path.relpath(self.path, self.root))


def is_picture(uri: str) -> bool:
    """Whether a source is a picture by its name; or a folder, pattern or list of pictures."""
    path = Path(uri)
    if os.path.isdir(uri) or uri.startswith("@"):
        return True
    if "%" in uri or "://" in uri or uri.startswith(("synthetic:", "synthetic?")):
        return False
    suffix = path.suffix.lower()
    pattern = glob.has_magic(path.name) and not os.path.exists(uri)
    return suffix in _PICTURES or (pattern and (not suffix or glob.has_magic(suffix)))


def pictures_of(uri: str) -> list[str]:
    """A picture; those of a folder by name; those that a pattern (``photos/**/*.jpg``) matches; or
    those that a list names (``@list.txt``, one path a line). Raises BadInput if there are none.
    """
    return [picture.path for picture in expanded(uri)]


def expanded(uri: str) -> list[Picture]:
    """``pictures_of``, each with its ``root``."""
    path = Path(uri)
    if uri.startswith("@"):
        names = read_names(Path(uri[1:])) or []
        if any(name.startswith("@") for name in names):
            raise BadInput(f"{uri[1:]}: names another list")
        return [one for name in names for one in expanded(name)]
    if os.path.isdir(uri):
        found = [str(p) for p in path.iterdir() if _looks_like_one(p)]
        if not found:
            raise BadInput(f"{uri}: no pictures in this folder")
        return [Picture(name, uri) for name in sorted(found)]
    if glob.has_magic(uri) and not os.path.exists(uri):
        root = Path(uri)
        while glob.has_magic(str(root)):
            root = root.parent
        found = [name for name in glob.glob(uri, recursive=True) if _looks_like_one(Path(name))]
        if not found:
            raise BadInput(f"{uri}: matches no pictures")
        return [Picture(name, str(root)) for name in sorted(found)]
    return [Picture(uri, str(path.parent))]


def _looks_like_one(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES | _MOVING and not path.is_dir()


class PicturesSource(Source):
    """Picture files one after the other, each in its own size.

    A picture that cannot be read is left out, and ``notify`` is called with one line. A frame's
    ``index`` is the picture's index in ``pictures``, its ``name`` the path.
    """

    still = True
    rate = 1.0

    def __init__(
        self, pictures: Sequence[Picture], notify: Callable[[str], None] = lambda _: None
    ) -> None:
        self.pictures, self._notify = list(pictures), notify
        self.name = self.pictures[0].path if len(self.pictures) == 1 else "pictures"
        self.frames_promised = len(self.pictures)
        self._next = 0

    def open(self) -> None:
        """Begins with the first picture."""
        self._next = 0

    def read(self, into: Image | None = None) -> Image | None:
        """See ``Source``; ``into`` is not used."""
        while self._next < len(self.pictures):
            path = self.pictures[self._next].path
            self._next += 1
            try:
                return read_image(path)
            except PosganError as error:
                self._notify(str(error))
            except MemoryError:
                self._notify(f"{path}: does not fit into memory")
        return None

    def label(self, count: int) -> tuple[int, str]:
        """See ``Source``."""
        return self._next - 1, self.pictures[self._next - 1].path

    def files(self) -> list[str | int]:
        """See ``Source``."""
        return [picture.path for picture in self.pictures]


def targets(pictures: Sequence[Picture], folder: Path, suffix: str | None) -> list[Path]:
    """A file in ``folder`` for each picture, with a suffix or (None) the picture's own.

    A picture keeps its path below the folder that was given. If two files would have the same name,
    all keep their path below their common folder; pictures of one folder that differ in the suffix
    alone (``a.jpg``, ``a.png``) get it as a part of the name: ``a-jpg``.
    """

    def made(places: list[Path]) -> list[Path]:
        return [folder / place.with_suffix(suffix or place.suffix) for place in places]

    places = [picture.place for picture in pictures]
    files = made(places)
    if len(set(files)) < len(files):
        paths = [os.path.abspath(picture.path) for picture in pictures]
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        places = [Path(os.path.relpath(path, common)) for path in paths]
        files = made(places)
    met = Counter(files)
    return [
        file if met[file] == 1 else file.with_stem(f"{file.stem}-{place.suffix[1:]}")
        for file, place in zip(files, places, strict=True)
    ]
