"""Videos, pictures and meshes."""

from __future__ import annotations

from pathlib import Path

import cv2

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import is_utf8
from posgan_edge.geometry.mesh import face_mesh
from posgan_edge.images import IMAGE_SUFFIXES, quiet_ffmpeg, write_image
from posgan_edge.live.sinks.base import FileSink, Result, Sink
from posgan_edge.live.sinks.outputs import Outputs, Series
from posgan_edge.render.dense import DENSE_SUFFIXES, filled, uv_texture, write_dense
from posgan_edge.render.meshes import (
    MESH_SUFFIXES,
    TEXTURED_SUFFIXES,
    check_mesh_writer,
    save_mesh,
)

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
#: Gaps without frames that are longer than this, in seconds, are left out of the video.
_LONGEST_GAP = 2.0


class VideoSink(FileSink):
    """A video of the drawn frames (MP4, MKV or AVI by suffix), ``rate`` frames a second.

    The rate is constant: if frames are missing, the frame before them is repeated, so that the
    video is as long as the recording.
    """

    draws = True

    def __init__(self, path: str | Path, rate: float, outputs: Outputs | None = None) -> None:
        super().__init__(path, outputs)
        if self.path.suffix.lower() not in VIDEO_CODECS:
            raise UsageError(f"{self.path}: unknown video type: use .mp4, .mkv or .avi")
        if not is_utf8(self.path):
            raise UsageError(f"{self.path}: the name of a video must be UTF-8")
        quiet_ffmpeg()
        self._codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self.path.suffix.lower()])
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._next = 0.0  # time stamp that the next frame of the file stands for
        self.frames = 0

    def write(self, result: Result) -> None:
        image, stamp = result.drawn, result.frame.timestamp
        # OpenCV does not tell of a write that failed, and an MP4 needs its index at the end.
        self.check_room()
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self.temporary), self._codec, self._rate, self._size)
            if not self._writer.isOpened():
                raise BadInput(f"{self.path}: the video cannot be written")
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

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.release()


class FilesSink(Sink):
    """A sink that writes files of their own for each frame, named by ``files``."""

    portable = True
    files: Series

    def append(self, data: bytes, name: str) -> None:
        """See ``Sink``: nothing is left to do."""


class ImagesSink(FilesSink):
    """The drawn frames as numbered pictures: FOLDER (JPEG) or FOLDER/name.png. For pictures: one
    file, or FOLDER and the picture's name, for each picture with a face."""

    draws = True

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        self.files = (outputs or Outputs()).series(path, IMAGE_SUFFIXES, "frame.jpg", False)
        self.name = str(path)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``: writes the files."""
        if result.faces or not self.files.by_picture:
            write_image(self.files.file(result.frame), result.drawn)
        return b""


class MeshesSink(FilesSink):
    """Every face as a mesh, numbered in a video: FOLDER (OBJ) or FOLDER/name.ply. OBJ and GLB
    carry a texture. For the names see ``Series``."""

    dense = True

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        self.files = (outputs or Outputs()).series(path, MESH_SUFFIXES, "face.obj", True)
        check_mesh_writer(self.files.name)
        self.name = str(path)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``: writes the files."""
        image, alone = result.frame.image, len(result.faces) == 1
        for face in result.faces:
            target, texture = self.files.file(result.frame, face, alone), None
            if target.suffix.lower() in TEXTURED_SUFFIXES:
                texture = filled(uv_texture(face, image, mirrored=True))
            save_mesh(face_mesh(face), target, image, texture)
        return b""


class DenseSink(FilesSink):
    """Depth, mask or texture of every face, numbered in a video: FOLDER or FOLDER/name.npy. For
    the names see ``Series``."""

    dense = True

    def __init__(
        self, kind: str, path: str | Path, mirrored: bool = False, outputs: Outputs | None = None
    ) -> None:
        suffixes = DENSE_SUFFIXES[kind]
        self.files = (outputs or Outputs()).series(path, suffixes, f"{kind}.png", True)
        self._kind, self._mirrored = kind, mirrored
        self.name = str(path)

    def encode(self, result: Result) -> bytes:
        """See ``Sink``: writes the files."""
        alone = len(result.faces) == 1
        for face in result.faces:
            target = self.files.file(result.frame, face, alone)
            write_dense(self._kind, face, result.frame.image, target, self._mirrored)
        return b""
