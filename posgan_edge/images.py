"""Reading and writing single pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput
from posgan_edge.files import read_limited, replaced, write_whole

#: What ``write_image`` writes in colour.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
#: How JPEG 2000 files and streams begin. OpenCV's decoder crashes on damaged ones.
_JPEG_2000 = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")
#: The largest picture file that is read, in bytes.
LARGEST_FILE = 1 << 30


def quiet_ffmpeg() -> None:
    """Keeps messages of OpenCV and of its FFmpeg off standard error. Call it before videos are
    read or written: FFmpeg looks at the setting once."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.setLogLevel(0)


def read_image(path: str | Path) -> Image:
    """A picture as (H, W, 3) uint8 BGR: grey is repeated, alpha dropped, 16 bits reduced to 8.

    Raises BadInput for a missing, empty, truncated or non-image file, for what is no regular file
    (a pipe, say) and for one of more than 1 GiB.

    >>> from importlib.resources import files
    >>> from posgan_edge import read_image
    >>> read_image(files("posgan_edge.assets") / "portrait.jpg").shape
    (512, 512, 3)
    """
    data = np.frombuffer(read_limited(path, LARGEST_FILE), np.uint8)
    return decode_image(data, str(path))


def decode_image(data: NDArray[np.uint8], name: str) -> Image:
    """The picture in a file's bytes (n,) uint8, as ``read_image`` returns it.

    Raises BadInput beginning with ``name`` for empty, truncated or other data, and for JPEG 2000.
    """
    if not data.size:
        raise BadInput(f"{name}: is empty")
    if data[:8].tobytes().startswith(_JPEG_2000):
        raise BadInput(f"{name}: is JPEG 2000, which is not read: convert it to PNG")
    if data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:].tobytes():
        raise BadInput(f"{name}: is a truncated JPEG")
    try:
        # The picture's own EXIF orientation is applied; depth is reduced below, not by cv2,
        # which would clip 16-bit values.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise BadInput(f"{name}: cannot be decoded ({error.err})") from error
    if image is None:
        raise BadInput(f"{name}: is not a picture that can be decoded")
    if image.dtype == np.uint16:
        return np.right_shift(image, 8).astype(np.uint8)
    if image.dtype != np.uint8:
        return np.clip(image * 255.0, 0, 255).astype(np.uint8)
    return image


def write_plot(path: str | Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Writes what ``draw`` draws on matplotlib's axes as PNG, ``size`` (width, height) inches
    large. Raises BadInput if it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    with replaced(path) as temporary:
        figure.savefig(temporary)


def write_image(path: str | Path, image: Image) -> None:
    """Writes a BGR picture under a temporary name and renames it. Raises BadInput if it cannot,
    and for a suffix that is no picture's."""
    try:
        # Not imwrite: it crashes on names that are not UTF-8, and does not tell of a full disk.
        coded, data = cv2.imencode(Path(path).suffix or " ", image)
    except cv2.error as error:
        raise BadInput(f"{path}: unknown picture type: use .png or .jpg") from error
    if not coded:
        raise BadInput(f"{path}: cannot be written")
    write_whole(path, data.tobytes())
