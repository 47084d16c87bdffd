"""A face in motion as one GLB file: a mesh, morph targets, and their weights and the head's pose
over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray, Image
from posgan_edge.errors import BadInput, needing
from posgan_edge.files import write_whole
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.mesh import vertex_normals

#: Moves shorter than this, in metres, are left out of a morph target.
_LEAST_MOVE = 1e-5


@dataclass(frozen=True)
class FaceAnimation:
    """A face over T moments, in metres and seconds, in axes with x right, y up, z out of the face.

    ``vertices`` (V, 3) float32 and ``triangles`` (F, 3), counter-clockwise from the front, are the
    face at rest; ``uv`` (V, 2) with v down. ``targets``: by name what each vertex (V, 3) moves by
    at a weight of 1. ``times`` (T,) rise; ``weights`` (T, targets) in the order of ``targets``;
    ``rotations`` (T, 4) are quaternions (x, y, z, w) of the head and ``translations`` (T, 3) its
    place. ``texture`` (S, S, 3) BGR lies on ``uv``.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.integer[Any]]
    uv: NDArray[np.float32]
    targets: Mapping[str, NDArray[np.float32]]
    times: FloatArray
    weights: FloatArray
    rotations: FloatArray
    translations: FloatArray
    texture: Image | None = None


def save_animation(animation: FaceAnimation, path: str | Path) -> None:
    """Writes a GLB (binary glTF 2.0) file: a node ``Head`` that is turned and moved, in it the mesh
    ``Face`` with its morph targets, whose names stand in ``extras.targetNames`` as Blender and
    three.js read them, and one animation.

    Raises BadInput if there is no moment or times do not rise, MissingRuntime without pygltflib.
    """
    times = np.asarray(animation.times, np.float32)
    if not len(times) or (np.diff(times) <= 0).any():
        raise BadInput(f"{path}: an animation needs moments in rising order")
    model = _Model()
    names = list(animation.targets)
    normals = vertex_normals(animation.vertices * Y_UP, animation.triangles) * Y_UP
    g = model.gltf
    attributes = g.Attributes(
        POSITION=model.add(animation.vertices, "VEC3", g.ARRAY_BUFFER, bounds=True),
        NORMAL=model.add(normals, "VEC3", g.ARRAY_BUFFER),
        TEXCOORD_0=model.add(animation.uv, "VEC2", g.ARRAY_BUFFER),
    )
    targets = [{"POSITION": model.add_sparse(moves)} for moves in animation.targets.values()]
    corners = model.add(animation.triangles.ravel(), "SCALAR", g.ELEMENT_ARRAY_BUFFER)
    primitive = g.Primitive(attributes=attributes, indices=corners, material=0, targets=targets)
    rest = [0.0] * len(names)
    mesh = g.Mesh(name="Face", primitives=[primitive], weights=rest, extras={"targetNames": names})
    clock = model.add(times, "SCALAR", bounds=True)
    channels: list[Any] = []
    samplers: list[Any] = []
    tracks = (
        (1, "weights", np.asarray(animation.weights, np.float32).ravel(), "SCALAR"),
        (0, "rotation", _continuous(animation.rotations), "VEC4"),
        (0, "translation", np.asarray(animation.translations, np.float32), "VEC3"),
    )
    for node, what, values, kind in tracks:
        target = g.AnimationChannelTarget(node=node, path=what)
        channels.append(g.AnimationChannel(sampler=len(samplers), target=target))
        output = model.add(values, kind)
        samplers.append(g.AnimationSampler(input=clock, output=output, interpolation="LINEAR"))
    model.finish(mesh, g.Animation(name="Expression", channels=channels, samplers=samplers),
                 animation.texture)  # fmt: skip
    write_whole(path, model.binary())


def check_animation_writer() -> Any:
    """The library that writes animations. Raises MissingRuntime if it is not there."""
    with needing("pygltflib", "animated meshes", "mesh"):
        import pygltflib
    return pygltflib


def _continuous(rotations: FloatArray) -> NDArray[np.float32]:
    """Quaternions (T, 4) whose signs do not jump, so that what lies between two is short."""
    turns = np.array(rotations, np.float64)
    signs = np.sign(np.einsum("ij,ij->i", turns[1:], turns[:-1]))
    turns[1:] *= np.cumprod(np.where(signs < 0, -1.0, 1.0))[:, None]
    unit: NDArray[np.float32] = (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit


@dataclass
class _Model:
    """Accessors and the bytes that they read."""

    gltf: Any = field(default_factory=check_animation_writer)
    accessors: list[Any] = field(default_factory=list)
    views: list[Any] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    document: Any = None

    def add(
        self, values: NDArray[Any], kind: str, target: int | None = None, bounds: bool = False
    ) -> int:
        """An accessor of values (N,) or (N, columns); its number."""
        values = _stored(values)
        accessor = self.gltf.Accessor(
            bufferView=self._view(values.tobytes(), target), type=kind, count=len(values),
            componentType=_component(self.gltf, values),
        )  # fmt: skip
        return self._append(accessor, values if bounds else None)

    def add_sparse(self, moves: NDArray[np.float32]) -> int:
        """An accessor of moves (V, 3) that are zero but for some; its number."""
        moves = np.where(np.abs(moves).max(axis=1, keepdims=True) >= _LEAST_MOVE, moves, 0)
        moves = moves.astype(np.float32)
        # A sparse accessor holds one value at least.
        places = np.flatnonzero(moves.any(axis=1)) if moves.any() else np.zeros(1, int)
        index = _stored(places)
        g, values = self.gltf, moves[places]
        sparse = g.Sparse(
            count=len(places),
            indices=g.AccessorSparseIndices(
                bufferView=self._view(index.tobytes()), componentType=_component(g, index)
            ),
            values=g.AccessorSparseValues(bufferView=self._view(values.tobytes())),
        )
        accessor = g.Accessor(
            type="VEC3",
            count=len(moves),
            componentType=g.FLOAT,
            sparse=sparse,
            bufferView=None,
            byteOffset=None,
        )
        return self._append(accessor, moves)

    def finish(self, mesh: Any, animation: Any, texture: Image | None) -> None:
        """Puts the parts together."""
        g = self.gltf
        look = g.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=1.0)
        images, textures = [], []
        if texture is not None:
            picture = cv2.imencode(".png", texture)[1].tobytes()
            images = [g.Image(bufferView=self._view(picture), mimeType="image/png", name="face")]
            textures = [g.Texture(source=0)]
            look.baseColorTexture = g.TextureInfo(index=0)
        self.document = g.GLTF2(
            asset=g.Asset(version="2.0", generator="posgan-edge"),
            scene=0,
            scenes=[g.Scene(nodes=[0])],
            nodes=[g.Node(name="Head", children=[1]), g.Node(name="Face", mesh=0)],
            meshes=[mesh],
            materials=[g.Material(name="face", pbrMetallicRoughness=look, doubleSided=True)],
            images=images,
            textures=textures,
            animations=[animation],
            accessors=self.accessors,
            bufferViews=self.views,
            buffers=[g.Buffer(byteLength=len(self.data))],
        )
        self.document.set_binary_blob(bytes(self.data))

    def binary(self) -> bytes:
        """The file."""
        return b"".join(self.document.save_to_bytes())

    def _view(self, data: bytes, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view = self.gltf.BufferView(
            buffer=0, byteOffset=len(self.data), byteLength=len(data), target=target
        )
        self.data += data
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append(view)
        return len(self.views) - 1

    def _append(self, accessor: Any, bounded: NDArray[Any] | None) -> int:
        if bounded is not None:
            columns = bounded.reshape(len(bounded), -1)
            accessor.min, accessor.max = columns.min(0).tolist(), columns.max(0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Floats in single precision, whole numbers in as few bytes as they need."""
    if values.dtype.kind == "f":
        return np.ascontiguousarray(values, np.float32)
    # The largest number of a kind is reserved.
    return np.ascontiguousarray(values, np.uint16 if values.max(initial=0) < 65535 else np.uint32)


def _component(gltf: Any, values: NDArray[Any]) -> int:
    names = {"float32": "FLOAT", "uint16": "UNSIGNED_SHORT", "uint32": "UNSIGNED_INT"}
    return int(getattr(gltf, names[values.dtype.name]))
