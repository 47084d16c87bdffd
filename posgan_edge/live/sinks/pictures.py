"""Videos, pictures and meshes."""

from __future__ import annotations

from pathlib import Path

import cv2

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.files import check_writable
from posgan_edge.geometry.mesh import face_mesh
from posgan_edge.images import write_image
from posgan_edge.live.sinks.base import FileSink, Result, Sink
from posgan_edge.render.dense import DENSE_SUFFIXES, write_dense
from posgan_edge.render.meshes import MESH_SUFFIXES, save_mesh

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
#: A gap longer than this, in seconds, is cut out of the video.
_LONGEST_GAP = 2.0


class VideoSink(FileSink):
    """A video of the drawn frames (MP4, MKV or AVI by suffix), ``rate`` frames a second.

    The rate is constant: where frames are missing, the one before stands for them, so that the
    video is as long as what it shows.
    """

    draws = True

    def __init__(self, path: str | Path, rate: float) -> None:
        super().__init__(path)
        if self.path.suffix.lower() not in VIDEO_CODECS:
            raise UsageError(f"{self.path}: unknown video type: use .mp4, .mkv or .avi")
        self._codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self.path.suffix.lower()])
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._next = 0.0  # time stamp that the next frame of the file stands for
        self.frames = 0

    def write(self, result: Result) -> None:
        image, stamp = result.canvas, result.frame.timestamp
        assert image is not None
        if self.frames % 30 == 0:
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


class ImagesSink(Sink):
    """The drawn frames as numbered pictures: FOLDER (JPEG) or FOLDER/name.png."""

    draws = True

    def __init__(self, path: str | Path) -> None:
        self._name = _numbered(Path(path), _IMAGE_SUFFIXES, "frame.jpg")
        self.name = str(path)

    def write(self, result: Result) -> None:
        assert result.canvas is not None
        write_image(_with_number(self._name, result.frame.index), result.canvas)


class MeshesSink(Sink):
    """Every face of every frame as a numbered mesh: FOLDER (OBJ) or FOLDER/name.ply."""

    meshes = True

    def __init__(self, path: str | Path) -> None:
        self._name = _numbered(Path(path), MESH_SUFFIXES, "face.obj")
        self.name = str(path)

    def write(self, result: Result) -> None:
        for face in result.faces:
            target = _with_number(self._name, result.frame.index, face.id)
            save_mesh(face_mesh(face.dense_map, face.crop), target, result.frame.image)


class DenseSink(Sink):
    """Depth, mask or texture of every face of every frame, numbered: FOLDER or FOLDER/name.npy."""

    meshes = True

    def __init__(self, kind: str, path: str | Path, mirrored: bool = False) -> None:
        self._name = _numbered(Path(path), DENSE_SUFFIXES[kind], f"{kind}.png")
        self._kind, self._mirrored = kind, mirrored
        self.name = str(path)

    def write(self, result: Result) -> None:
        for face in result.faces:
            target = _with_number(self._name, result.frame.index, face.id)
            write_dense(self._kind, face, result.frame.image, target, self._mirrored)


def _numbered(path: Path, suffixes: tuple[str, ...], default: str) -> Path:
    name = path if path.suffix else path / default
    if name.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: give a folder, or FOLDER/name with {', '.join(suffixes)}")
    return check_writable(name)


def _with_number(path: Path, number: int, face: int | None = None) -> Path:
    which = "" if face is None else f"-{face}"
    return path.with_stem(f"{path.stem}-{number:06d}{which}")
