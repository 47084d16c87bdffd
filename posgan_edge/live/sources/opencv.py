"""Video files, cameras and network streams, through OpenCV."""

from __future__ import annotations

import glob
import os
import re
import stat
import time

import cv2
import numpy as np

from posgan_edge.arrays import Image
from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.files import is_utf8
from posgan_edge.images import quiet_ffmpeg
from posgan_edge.live.sources.base import Source, SourceLost, shown
from posgan_edge.system import has_gstreamer

#: How long a network stream may take to open and to give a frame, ms.
OPEN_MS, READ_MS = 8000, 3000
#: The same for a frame of RTSP: FFmpeg tries three times before it gives up.
RTSP_READ_MS = 1000
#: A stream of a stated length that stops earlier than so many seconds before its end was lost.
_END_SECONDS = 1.0
_CSI = (
    "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width=1280,height=720,"
    "framerate={rate}/1 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
    "video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)


def _blocks(target: str) -> bool:
    """Whether opening a target may wait for ever, in a library that no signal interrupts."""
    try:
        mode = os.stat(target).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class OpenCvSource(Source):
    """``target``: a file, a frame pattern (``frame-%04d.png``), a camera's number or device, or a
    stream's address. A camera is asked for ``rate`` frames a second where that is given."""

    def __init__(self, target: str, live: bool, rate: float | None = None) -> None:
        self.name = shown(target)
        self.live = live
        self._target, self._asked = target, rate
        self._capture: cv2.VideoCapture | None = None
        self.position = 0.0

    def open(self) -> None:
        quiet_ffmpeg()
        if not is_utf8(self._target):  # OpenCV ends the process on others
            raise BadInput(f"{self.name}: the name of a video must be UTF-8")
        if _blocks(self._target):
            raise BadInput(
                f"{self.name}: a pipe or a socket, not a video: give frames to standard input (-)"
            )
        self._capture, self.position = self._opened(), 0.0
        if not self._capture.isOpened():
            self._capture = None
            network = "://" in self._target and not self._target.startswith("csi:")
            what = "stream" if network else "camera"
            problem = f"{what} cannot be opened" if self.live else "not a video that can be decoded"
            raise BadInput(f"{self.name}: {problem}")
        if self._asked and self.live:
            self._capture.set(cv2.CAP_PROP_FPS, self._asked)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 1 <= rate <= 1000 else self._asked or 30.0
        self.frames_promised = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if self._rtsp and not self.frames_promised:
            self._leave_out_old_frames(self._capture)

    @property
    def _rtsp(self) -> bool:
        return self._target.startswith(("rtsp://", "rtsps://"))

    def _leave_out_old_frames(self, capture: cv2.VideoCapture) -> None:
        """Leaves out the frames that came while FFmpeg examined the stream: they are there at once,
        while a new one takes about a frame's period. Three in a row: decoding one may be slow."""
        waited = 0
        for _ in range(int(self.rate * OPEN_MS / 1000)):
            start = time.perf_counter()
            if not capture.grab():
                return
            waited = waited + 1 if time.perf_counter() - start > 0.5 / self.rate else 0
            if waited == 3:
                return

    def _opened(self) -> cv2.VideoCapture:
        target = self._target
        if target.isdigit():
            return cv2.VideoCapture(int(target))
        if target.startswith("csi://"):
            if not has_gstreamer():
                raise MissingRuntime(
                    f"{target}: needs an OpenCV built with GStreamer (JetPack's is; PyPI's is not)"
                )
            pipeline = _CSI.format(number=target[6:] or "0", rate=round(self._asked or 30))
            return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if "://" in target:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
            wait = RTSP_READ_MS if self._rtsp else READ_MS
            return cv2.VideoCapture(target, cv2.CAP_FFMPEG, [*limits, wait])
        return cv2.VideoCapture(target)

    def read(self, into: Image | None = None) -> Image | None:
        if self._capture is None:
            raise BadInput(f"{self.name}: is not open")
        try:
            ok, image = self._capture.read() if into is None else self._capture.read(into)
        except cv2.error:
            ok, image = True, np.empty((0, 0, 3), np.uint8)
        if not ok:
            if not self.live or self._at_end():
                return None
            raise SourceLost(f"{self.name}: gives no frame")
        if self._rtsp:
            # OpenCV forgets the position when a read fails.
            self.position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if image.ndim == 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else image

    def _at_end(self) -> bool:
        """Whether a stream of a stated length has reached its end; others have none.

        What comes over HTTP is a file, whose header may promise more than it holds."""
        if not self._rtsp or not self.frames_promised:
            return self.frames_promised > 0
        return self.frames_promised / self.rate - self.position < _END_SECONDS

    def files(self) -> list[str | int]:
        """See ``Source``: a file, or every file that a pattern may stand for."""
        if "://" in self._target or self._target.isdigit():
            return []
        if os.path.exists(self._target):
            return [self._target]
        pattern = re.sub(r"%0?\d*d", "*", self._target.replace("[", "[[]"))
        return [*glob.glob(pattern)]

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
