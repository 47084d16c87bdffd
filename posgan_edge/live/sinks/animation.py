"""Writing the face of a video as an animated mesh."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import Image
from posgan_edge.errors import UsageError
from posgan_edge.faces.expression import mean_face_to_basis, without_pose
from posgan_edge.faces.expression_basis import ARKIT_NAMES, load_basis
from posgan_edge.faces.values import Face
from posgan_edge.geometry.axes import Y_UP, quaternion
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.mesh import grid_triangles
from posgan_edge.live.sinks.base import FileSink, Result
from posgan_edge.live.sinks.outputs import Outputs
from posgan_edge.render.animation import FaceAnimation, check_animation_writer, save_animation
from posgan_edge.render.dense import filled, uv_texture

#: A frame replaces the texture if it shows the face more frontally by at least this, in degrees.
_MORE_FRONTAL = 3.0
_METRES = np.float32(0.01)  # in one centimetre


class AnimationSink(FileSink):
    """Writes the first face of a video to a GLB file.

    The file has 52 morph targets with ARKit's names, their weights over time, and a node with the
    head's pose. The mesh is the person at rest: the mean of all frames, with pose and expression
    removed. Its texture is from the most frontal frame. The head moves in the plane of the picture,
    relative to its first position; the distance from the camera is unknown. Other faces and later
    tracks are left out. Raises UsageError if the name does not end in .glb, and MissingRuntime
    without the mesh packages.
    """

    dense = True
    expressions = True

    def __init__(self, path: str | Path, outputs: Outputs | None = None) -> None:
        if Path(path).suffix.lower() != ".glb":
            raise UsageError(f"{path}: an animation is a .glb file")
        check_animation_writer()
        super().__init__(path, outputs)
        self._track: _Track | None = None

    def write(self, result: Result) -> None:
        for face in result.faces:
            if self._track is None and face.blendshapes is not None:
                self._track = _Track(face)
            if self._track is not None and face.id == self._track.id:
                self._track.add(face, result.frame.timestamp)
                self._track.look(face, result.frame.image)
                self.used = True
                return

    def finish(self) -> None:
        if self._track is not None:
            save_animation(self._track.animation(), self.temporary)


class _Track:
    """The frames of one face so far."""

    def __init__(self, face: Face) -> None:
        layout, size = face.dense_map.layout, face.dense_map.resolution
        self.id, self._start = face.id, face.pose.translation
        self._texture: Image | None = None
        self._turned = math.inf
        self._index, self._triangles = grid_triangles(layout, size)
        self._targets = _targets(layout, size)
        self._to_basis = mean_face_to_basis(layout, load_basis().neutral)
        self._sum = np.zeros((len(self._index), 3))
        self._times: list[float] = []
        self._weights: list[NDArray[np.float32]] = []
        self._turns: list[NDArray[np.float64]] = []
        self._places: list[NDArray[np.float64]] = []

    def add(self, face: Face, timestamp: float) -> None:
        shapes = face.blendshapes
        if shapes is None or (self._times and timestamp <= self._times[-1]):
            return
        weights = np.fromiter(shapes.values(), np.float32, len(ARKIT_NAMES))
        xyz = face.dense_map.xyz.reshape(3, -1)[:, self._index].T
        free = without_pose(face.crop.to_frame(xyz), face.pose, *self._to_basis) * Y_UP
        self._sum += free - np.tensordot(weights, self._targets, 1)
        self._times.append(timestamp)
        self._weights.append(weights)
        self._turns.append(quaternion(face.pose.rotation))
        # Centimetres of the basis in one unit of the mean face.
        unit = np.linalg.norm(self._to_basis[0][0])
        moved = (face.pose.translation - self._start) * (unit / face.pose.scale)
        self._places.append(moved * np.array([1.0, 1.0, 0.0]))

    def look(self, face: Face, image: Image) -> None:
        """Takes the texture of this frame if it shows the face clearly more frontally."""
        turned = math.hypot(face.pose.yaw, face.pose.pitch)
        if turned < self._turned - _MORE_FRONTAL:
            self._texture = filled(uv_texture(face, image, mirrored=True))
            self._turned = turned

    def animation(self) -> FaceAnimation:
        """Returns the animation. The head turns about its middle."""
        rest = self._sum / len(self._times) - self._to_basis[1] * Y_UP
        size = load_basis().neutral.shape[-1]
        uv = np.column_stack([self._index % size + 0.5, self._index // size + 0.5]) / size
        return FaceAnimation(
            vertices=(rest * _METRES).astype(np.float32),
            triangles=self._triangles,
            uv=uv.astype(np.float32),
            targets=dict(zip(ARKIT_NAMES, self._targets * _METRES, strict=True)),
            times=np.array(self._times) - self._times[0],
            weights=np.stack(self._weights),
            rotations=np.stack(self._turns),
            translations=np.stack(self._places) * float(_METRES),
            texture=self._texture,
        )


def _targets(layout: UvLayout, size: int) -> NDArray[np.float32]:
    """Returns the change of each vertex at a value of 1: (52, V, 3) in centimetres, y up."""
    index, _ = grid_triangles(layout, size)
    basis = load_basis()
    targets = np.zeros((len(ARKIT_NAMES), len(index), 3), np.float32)
    for name, change in zip(basis.names, basis.expression, strict=True):
        targets[ARKIT_NAMES.index(name)] = change.reshape(3, -1)[:, index].T * Y_UP
    return targets
