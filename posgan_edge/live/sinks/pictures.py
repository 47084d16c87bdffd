"""Pictures and meshes."""

from __future__ import annotations

from pathlib import Path

from posgan_edge.geometry.mesh import face_mesh
from posgan_edge.images import IMAGE_SUFFIXES, write_image
from posgan_edge.live.sinks.base import Result, Sink
from posgan_edge.live.sinks.outputs import Outputs, Series
from posgan_edge.render.dense import DENSE_SUFFIXES, filled, uv_texture, write_dense
from posgan_edge.render.meshes import (
    MESH_SUFFIXES,
    TEXTURED_SUFFIXES,
    check_mesh_writer,
    save_mesh,
)


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
