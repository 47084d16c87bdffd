"""Pictures in zip archives."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, one_line

_UTF8 = 0x800  # flag of a member: its name is UTF-8
#: What zipfile raises for damaged, encrypted or unknown archives.
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, BadZipFile, zlib.error)


class ZipPictures(Closing):
    """An open zip archive: its files by name. A context manager.

    Names are UTF-8 where the archive says so or where they can be; otherwise code page 437, as the
    format prescribes. Raises BadInput if it is no archive that can be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._archive = ZipFile(path)
        except _BROKEN as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise BadInput(f"{path}: not a zip archive that can be read: {reason}") from error
        self.members = {_name(i): i for i in self._archive.infolist() if not i.is_dir()}

    def read(self, name: str, largest: int) -> bytes:
        """A file's bytes. Raises BadInput if it is damaged, encrypted or missing, and for more than
        ``largest`` bytes, of which no more are unpacked."""
        whole = f"{self.path}/{name}"
        try:
            member = self.members[name]
            with self._archive.open(member) as stream:
                data = stream.read(largest + 1)
        except KeyError as error:
            raise BadInput(f"{whole}: is not in the archive any more") from error
        except _BROKEN as error:
            raise BadInput(f"{whole}: cannot be read: {one_line(error)}") from error
        if len(data) > largest:
            raise BadInput(f"{whole}: is larger than {largest >> 20} MiB")
        return data

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()


def _name(member: ZipInfo) -> str:
    if member.flag_bits & _UTF8:
        return member.filename
    # zipfile has read it as code page 437.
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def inside(name: str) -> Path:
    """A member's name or an address's path as a relative path that leads into no other folder."""
    parts = name.replace("\\", "/").split("/")
    kept = [part.replace(":", "_") for part in parts if part not in ("", ".", "..")]
    return Path(*kept)
