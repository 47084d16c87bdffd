"""The original's folders: pictures in ``InputImage``, and their maps in ``LabelImage_npy``."""

from __future__ import annotations

from pathlib import Path

from posgan_edge.errors import BadInput
from posgan_edge.files import is_temporary


def input_pictures(folder: Path) -> list[Path]:
    """The pictures ``InputImage/*.jpg``. Raises BadInput if there are none."""
    found = sorted(p for p in (folder / "InputImage").glob("*.jpg") if not is_temporary(p))
    if not found:
        raise BadInput(f"{folder}: no InputImage/*.jpg here")
    return found


def label_of(picture: Path) -> Path:
    """The file with the map of a picture: ``LabelImage_npy/NAME.npy``."""
    return picture.parents[1] / "LabelImage_npy" / f"{picture.stem}.npy"
