"""Videos: H.264 through PyAV, otherwise what OpenCV can write."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import is_utf8
from posgan_edge.images import quiet_ffmpeg
from posgan_edge.live.sinks.base import FileSink, Result
from posgan_edge.live.sinks.outputs import Outputs

#: What OpenCV writes by suffix; PyAV writes H.264 into the first two.
VIDEO_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_H264 = (".mp4", ".mkv")
#: Gaps without frames that are longer than this, in seconds, are left out of the video.
_LONGEST_GAP = 2.0
#: Pixels along a side below which H.264 is not used.
_LEAST_SIDE = 16
#: x264 fast enough for a live loop on a small processor, and without frames that it holds back.
_X264 = {"preset": "superfast", "tune": "zerolatency", "crf": "23"}
#: MP4 in fragments, which play as far as they were written; at the end one index is made of them.
_MP4 = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
_MKV = {"cluster_time_limit": "1000", "flush_packets": "1"}


class _Writer(Protocol):
    def write(self, image: Image) -> None: ...

    def close(self) -> None: ...


class VideoSink(FileSink):
    """A video of the drawn frames (MP4, MKV or AVI by suffix), ``rate`` frames a second.

    The rate is constant: if frames are missing, the frame before them is repeated, so that the
    video is as long as the recording. MP4 and MKV are H.264 if PyAV is installed, and MPEG-4 part
    2 otherwise; ``note`` then says so in one line. AVI is Motion JPEG.
    """

    draws = True

    def __init__(self, path: str | Path, rate: float, outputs: Outputs | None = None) -> None:
        super().__init__(path, outputs)
        suffix = self.path.suffix.lower()
        if suffix not in VIDEO_CODECS:
            raise UsageError(f"{self.path}: unknown video type: use .mp4, .mkv or .avi")
        if not is_utf8(self.path):
            raise UsageError(f"{self.path}: the name of a video must be UTF-8")
        self._rate = rate
        self._av = _with_x264() if suffix in _H264 else None
        self.note = ""
        if suffix in _H264 and self._av is None:
            self.note = (
                f"{self.path}: is MPEG-4 part 2, which browsers do not play; for H.264: "
                "pip install 'posgan-edge[video]'"
            )
        self._writer: _Writer | None = None
        self._size = (0, 0)
        self._next = 0.0  # time stamp that the next frame of the file stands for
        self.frames = 0

    def write(self, result: Result) -> None:
        image, stamp = result.drawn, result.frame.timestamp
        # OpenCV does not tell of a write that failed.
        self.check_room()
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = self._opened()
            self._next = stamp
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        if not 0 <= stamp - self._next <= _LONGEST_GAP:
            self._next = stamp
        count = max(1, round((stamp - self._next) * self._rate) + 1)
        for _ in range(count):
            self._writer.write(image)
            self.used = True
        self.frames += count
        self._next += count / self._rate

    def _opened(self) -> _Writer:
        if self._av is not None and min(self._size) >= _LEAST_SIDE:
            return _AvWriter(self._av, self.temporary, self._rate, self._size)
        return _CvWriter(self.path, self.temporary, self._rate, self._size)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _CvWriter:
    """A video through OpenCV. Raises BadInput if it cannot be opened."""

    def __init__(self, path: Path, temporary: Path, rate: float, size: tuple[int, int]) -> None:
        quiet_ffmpeg()
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(temporary), codec, rate, size)
        if not self._writer.isOpened():
            raise BadInput(f"{path}: the video cannot be written")

    def write(self, image: Image) -> None:
        self._writer.write(image)

    def close(self) -> None:
        self._writer.release()


class _AvWriter:
    """H.264 through PyAV, of an even width and height: an odd last column or row is left out."""

    def __init__(self, av: Any, path: Path, rate: float, size: tuple[int, int]) -> None:
        self._av = av
        self._width, self._height = size[0] & ~1, size[1] & ~1
        options = _MP4 if path.suffix.lower() == ".mp4" else _MKV
        self._container = av.open(str(path), "w", options=options)
        stream = self._container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1001), options=_X264
        )
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        # A fragment ends at each of these: what is lost when the process is killed.
        stream.codec_context.gop_size = max(1, round(rate))
        self._stream = stream

    def write(self, image: Image) -> None:
        """Raises OSError if it cannot be written."""
        part = np.ascontiguousarray(image[: self._height, : self._width])
        try:
            frame = self._av.VideoFrame.from_ndarray(part, format="bgr24")
            self._container.mux(self._stream.encode(frame))
        except self._av.FFmpegError as error:
            number = error.errno if error.errno and error.errno > 0 else errno.EIO
            raise OSError(number, os.strerror(number)) from error

    def close(self) -> None:
        # If the disk became full, the fragments up to there still play.
        with suppress(self._av.FFmpegError):
            self._container.mux(self._stream.encode(None))
        with suppress(self._av.FFmpegError):
            self._container.close()


def _with_x264() -> Any:
    """PyAV, if it is installed and has x264; otherwise None."""
    try:
        import av

        av.codec.Codec("libx264", "w")
    except (ImportError, ValueError):  # ValueError: a codec that it does not know
        return None
    return av
