"""Dense 3D faces on small machines: UV position maps from a face crop.

Importing this package imports numpy at most; heavy dependencies load where they are used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime reports its use to its makers unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_EXPORTS = {
    "Face": "posgan_edge.faces.values",
    "FaceBox": "posgan_edge.geometry.values",
    "Frame": "posgan_edge.faces.values",
    "PositionMap": "posgan_edge.geometry.values",
    "Crop": "posgan_edge.geometry.crop",
    "UvLayout": "posgan_edge.geometry.layout",
    "load_layout": "posgan_edge.geometry.layout",
    "load_engine": "posgan_edge.engines",
    "LANDMARK_NAMES": "posgan_edge.geometry.landmarks",
    "openness": "posgan_edge.geometry.landmarks",
    "blendshapes": "posgan_edge.faces.expression_track",
    "ARKIT_NAMES": "posgan_edge.faces.expression_basis",
    "face_mesh": "posgan_edge.geometry.mesh",
    "save_mesh": "posgan_edge.render.meshes",
    "depth_map": "posgan_edge.render.dense",
    "face_mask": "posgan_edge.render.dense",
    "uv_texture": "posgan_edge.render.dense",
    "camera_matrix": "posgan_edge.faces.camera",
    "metric_pose": "posgan_edge.faces.camera",
    "weak_perspective": "posgan_edge.faces.camera",
    "FacePipeline": "posgan_edge.faces.pipeline",
    "FaceTracker": "posgan_edge.faces.tracker",
    "PosganError": "posgan_edge.errors",
    "read_faces": "posgan_edge.jobs.parquet",
}
__all__ = [
    "ARKIT_NAMES",
    "LANDMARK_NAMES",
    "Crop",
    "Face",
    "FaceBox",
    "FacePipeline",
    "FaceTracker",
    "Frame",
    "PosganError",
    "PositionMap",
    "UvLayout",
    "__version__",
    "blendshapes",
    "camera_matrix",
    "depth_map",
    "face_mask",
    "face_mesh",
    "load_engine",
    "load_layout",
    "metric_pose",
    "openness",
    "read_faces",
    "save_mesh",
    "uv_texture",
    "weak_perspective",
]

if TYPE_CHECKING:
    from posgan_edge.engines import load_engine
    from posgan_edge.errors import PosganError
    from posgan_edge.faces.camera import camera_matrix, metric_pose, weak_perspective
    from posgan_edge.faces.expression_basis import ARKIT_NAMES
    from posgan_edge.faces.expression_track import blendshapes
    from posgan_edge.faces.pipeline import FacePipeline
    from posgan_edge.faces.tracker import FaceTracker
    from posgan_edge.faces.values import Face, Frame
    from posgan_edge.geometry.crop import Crop
    from posgan_edge.geometry.landmarks import LANDMARK_NAMES, openness
    from posgan_edge.geometry.layout import UvLayout, load_layout
    from posgan_edge.geometry.mesh import face_mesh
    from posgan_edge.geometry.values import FaceBox, PositionMap
    from posgan_edge.jobs.parquet import read_faces
    from posgan_edge.render.dense import depth_map, face_mask, uv_texture
    from posgan_edge.render.meshes import save_mesh


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'posgan_edge' has no attribute {name!r}")
