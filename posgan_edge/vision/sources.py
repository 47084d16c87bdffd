"""Where frames come from: pictures, a video file, a camera."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2

from posgan_edge.errors import BadInput
from posgan_edge.types import Frame
from posgan_edge.vision.images import read_image


def picture_frame(path: str | Path) -> Frame:
    """One picture as a frame. Raises BadInput when it cannot be read."""
    return Frame(read_image(path), name=str(path))


class VideoSource:
    """Frames of a video file, or of a camera by number, device path or stream URI.

    A context manager and an iterator. ``frames_promised`` is what the header says; files often
    hold fewer. Time stamps of a file follow its frame rate; those of a camera are wall time.
    """

    def __init__(self, target: str, camera: bool = False) -> None:
        self.name, self.camera = target, camera
        if not camera and not Path(target).is_file():
            raise BadInput(f"{target}: no such video file")
        # FFmpeg's own complaints go to stderr beside our one line otherwise.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        cv2.setLogLevel(0)
        numbered = camera and target.isdigit()
        self._capture = cv2.VideoCapture(int(target) if numbered else target)
        if not self._capture.isOpened():
            what = "camera cannot be opened" if camera else "not a video that can be decoded"
            raise BadInput(f"{target}: {what}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 1 <= rate <= 1000 else 30.0
        self.frames_promised = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Frame]:
        start = time.monotonic()
        index = 0
        while True:
            ok, image = self._capture.read()
            if not ok:
                if index == 0:
                    raise BadInput(f"{self.name}: gives no frame")
                return
            stamp = time.monotonic() - start if self.camera else index / self.rate
            yield Frame(image, index, stamp, self.name)
            index += 1

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.release()
