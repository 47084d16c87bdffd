"""Where results go: JSON lines, a video file, a window. Each is a context manager.

Files are written under a temporary name and renamed when they are closed, also after Ctrl-C;
after any other error nothing is left under the final name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.files import check_writable, temporary_name
from posgan_edge.types import Face, Frame, Image

_KEEP_ON = (KeyboardInterrupt,)


class FileSink:
    """The shared life of a sink that writes one file."""

    def __init__(self, path: str | Path) -> None:
        self.path = check_writable(path)
        self.temporary = temporary_name(self.path)

    def finish(self) -> None:
        """Flushes and closes the temporary file."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.finish()
            if (kind is None or issubclass(kind, _KEEP_ON)) and self.temporary.exists():
                os.replace(self.temporary, self.path)
        except OSError as failure:
            raise BadInput(f"{self.path}: cannot be written ({failure.strerror})") from failure
        finally:
            self.temporary.unlink(missing_ok=True)


class JsonLinesSink(FileSink):
    """One line per frame; see ``frame_record`` for its fields."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._stream = open(self.temporary, "w", encoding="utf-8")  # noqa: SIM115

    def write(self, frame: Frame, faces: Sequence[Face]) -> None:
        try:
            self._stream.write(json.dumps(frame_record(frame, faces)) + "\n")
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be written ({error.strerror})") from error

    def finish(self) -> None:
        self._stream.close()


class VideoSink(FileSink):
    """A video of the drawn frames, at the source's rate (MP4 or AVI by suffix)."""

    def __init__(self, path: str | Path, rate: float) -> None:
        super().__init__(path)
        codecs = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
        if self.path.suffix.lower() not in codecs:
            raise BadInput(f"{self.path}: unknown video type: use .mp4, .mkv or .avi")
        self._codec = cv2.VideoWriter.fourcc(*codecs[self.path.suffix.lower()])
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, image: Image) -> None:
        height, width = image.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            self._writer = cv2.VideoWriter(str(self.temporary), self._codec, self._rate, self._size)
            if not self._writer.isOpened():
                raise BadInput(f"{self.path}: the video cannot be written")
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(image)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.release()


class WindowSink:
    """A window that shows frames; ``write`` answers False once the user closes it or types q."""

    title = "posgan-edge"

    @staticmethod
    def available() -> bool:
        """True when this process has a display to draw on."""
        if sys.platform.startswith("linux"):
            return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        return True

    def write(self, image: Image, wait_ms: int = 1) -> bool:
        try:
            cv2.imshow(self.title, image)
        except cv2.error as error:
            raise MissingRuntime("this OpenCV cannot open a window: use --no-window") from error
        key = cv2.waitKey(wait_ms) & 0xFF
        visible = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        return visible and key not in (ord("q"), 27)

    def __enter__(self) -> WindowSink:
        return self

    def __exit__(self, *_: object) -> None:
        cv2.destroyAllWindows()


def frame_record(frame: Frame, faces: Sequence[Face]) -> dict[str, Any]:
    """A frame's faces as plain data: lengths in frame pixels, angles in degrees, times in s."""
    return {
        "source": frame.name,
        "frame": frame.index,
        "timestamp": round(frame.timestamp, 6),
        "width": int(frame.image.shape[1]),
        "height": int(frame.image.shape[0]),
        "faces": [_face_record(face) for face in faces],
    }


def _face_record(face: Face) -> dict[str, Any]:
    box, crop, pose = face.box, face.crop, face.pose
    return {
        "id": face.id,
        "score": round(box.score, 4),
        "box": [round(v, 2) for v in (box.x, box.y, box.width, box.height)],
        "landmarks": np.round(face.landmarks.astype(float), 2).tolist(),
        "pose": {k: round(getattr(pose, k), 2) for k in ("pitch", "yaw", "roll")},
        "crop": {
            "center": [round(crop.center_x, 2), round(crop.center_y, 2)],
            "side": round(crop.side, 2),
            "angle": round(crop.angle, 2),
        },
        "timings_ms": {k: round(v, 2) for k, v in face.timings_ms.items()},
    }
