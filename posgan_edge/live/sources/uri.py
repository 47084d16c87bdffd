"""Opening a source by its name: a file, a camera, or an address."""

from __future__ import annotations

import os
import re

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.live.sources.base import Source

_STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
#: For help and errors.
FORMS = (
    "a picture, a folder, a video file, frame-%04d.png, a camera's number, /dev/videoN, csi://N, "
    "rtsp://, http://, - (raw frames on standard input) or synthetic:"
)


def names_camera(uri: str) -> bool:
    """Whether a name is that of a camera or a stream, or of the moving portrait."""
    if uri.isdigit() or uri.startswith(("/dev/", "synthetic:", "synthetic?")) or uri == "synthetic":
        return True
    return "://" in uri and not uri.startswith("file://")


def open_source(
    uri: str,
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    camera: bool = False,
) -> Source:
    """The source that a URI names, not yet opened: a video file, ``frame-%04d.png``, a camera's
    number, ``/dev/videoN``, ``csi://N``, ``rtsp://``, ``http://``, ``-``, ``synthetic:?key=value``.

    ``size`` (width, height) is needed for ``-`` only. ``rate``: the frames a second that a camera
    is asked for, or that raw frames have. ``camera``: any other name is that of a camera. Raises
    UsageError for an unknown scheme, BadInput for a file that does not exist.
    """
    from posgan_edge.live.sources.opencv import OpenCvSource

    if (uri == "-") != (size is not None):
        raise UsageError("raw frames on standard input (-) need a size, others do not", "size")
    if size is not None:
        from posgan_edge.live.sources.raw import RawSource

        return RawSource(size, rate)
    if uri == "synthetic" or uri.startswith(("synthetic:", "synthetic?")):
        from posgan_edge.live.sources.synthetic import SyntheticSource

        return SyntheticSource.from_uri(uri)
    scheme, separator, rest = uri.partition("://")
    if separator:
        if scheme in ("file", "v4l2"):
            return open_source(rest, None, rate)
        if scheme != "csi" and scheme not in _STREAMS:
            raise UsageError(f"{uri}: unknown kind of source {scheme!r}: give {FORMS}")
        if scheme == "csi" and not re.fullmatch(r"\d*", rest):
            raise UsageError(f"{uri}: a CSI camera is csi:// and its number")
        if scheme in ("rtsp", "rtsps"):
            from posgan_edge.live.sources.rtsp import RtspSource, has_av

            if has_av():
                return RtspSource(uri, rate)
        return OpenCvSource(uri, live=True, rate=rate)
    if uri.isdigit() and not re.fullmatch(r"[0-9]{1,9}", uri):
        raise BadInput(f"{uri}: no such camera: give its number, as 0")
    if camera or uri.isdigit() or uri.startswith("/dev/"):
        # A file in place of a camera ends; it is not opened again and again.
        live = not os.path.isfile(uri) and "%" not in uri
        return OpenCvSource(uri, live=live, rate=rate)
    pattern = "%" in uri and os.path.isdir(os.path.dirname(uri) or ".")
    if not os.path.isfile(uri) and not pattern:
        raise BadInput(f"{uri}: no such video file")
    return OpenCvSource(uri, live=False, rate=rate)
