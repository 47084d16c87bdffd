"""Models for Triton's Python backend. The ``model.py`` files of a repository import them.

``triton_python_backend_utils`` exists only inside the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines import Engine, EngineInfo, load_engine
from posgan_edge.errors import BadInput, PosganError
from posgan_edge.faces.values import Face
from posgan_edge.geometry.values import FaceBox

#: Outputs of the faces model: name, Triton's type, shape of one face's row.
FACE_OUTPUTS = (
    ("boxes", "FP64", (4,)), ("scores", "FP64", ()), ("crops", "FP64", (4,)),
    ("landmarks", "FP32", (68, 3)), ("facing", "FP32", (68,)), ("pose", "FP64", (3,)),
    ("rotation", "FP64", (3, 3)), ("translation", "FP64", (3,)), ("scale", "FP64", ()),
    ("blendshapes", "FP64", (52,)),
)  # fmt: skip
#: Largest number of faces per frame if the request does not set it.
MAX_FACES = 64


class NetworkModel:
    """The network: ``image`` (N, 3, S, S) -> ``position_map`` (N, 3, M, M), float32."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model file in the folder of ``model.py``."""
        self._utils = _utils()
        parameters = _parameters(args)
        file = Path(args["model_repository"]) / args["model_version"] / parameters["file"]
        self._engine = load_engine(file)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Returns a response for each request; requests are not joined to one batch."""
        return [_response(self._utils, self._maps, request) for request in requests]

    def _maps(self, request: Any) -> dict[str, NDArray[Any]]:
        images = self._utils.get_input_tensor_by_name(request, "image").as_numpy()
        return {"position_map": self._engine.infer_all(images.astype(np.float32, copy=False))}

    def finalize(self) -> None:
        """Frees the engine."""
        self._engine.close()


class FacesModel:
    """Finds the faces of a picture: ``file`` (bytes of a JPEG or PNG) or ``frame`` (H, W, 3) BGR.

    With ``boxes`` (F, 4) in pixels no detector runs; otherwise it looks for up to ``max_faces``.
    Outputs are ``FACE_OUTPUTS``, a row per face.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Makes the pipeline. It uses the network model of the same server."""
        from posgan_edge.faces.pipeline import FacePipeline

        self._utils = _utils()
        self._pipeline = FacePipeline(_ServedEngine(self._utils, _parameters(args)))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Returns a response for each request."""
        return [_response(self._utils, self._faces, request) for request in requests]

    def _faces(self, request: Any) -> dict[str, NDArray[Any]]:
        from posgan_edge.images import decode_image

        given: dict[str, Any] = {}
        for name in ("file", "frame", "boxes", "max_faces"):
            tensor = self._utils.get_input_tensor_by_name(request, name)
            given[name] = None if tensor is None else tensor.as_numpy()
        if (given["file"] is None) == (given["frame"] is None):
            raise BadInput("give 'file' (a picture's bytes) or 'frame' (H, W, 3): one of the two")
        image = given["frame"] if given["file"] is None else decode_image(given["file"], "file")
        boxes = None
        if given["boxes"] is not None:
            boxes = [FaceBox(*map(float, row)) for row in given["boxes"]]
        elif self._pipeline.detector is None:
            from posgan_edge.faces.detector import MediaPipeDetector

            self._pipeline.detector = MediaPipeDetector()
        most = MAX_FACES if given["max_faces"] is None else int(given["max_faces"][0])
        faces = self._pipeline.process(image, boxes, most)
        return face_arrays(faces, request.requested_output_names())

    def finalize(self) -> None:
        """Frees the pipeline."""
        self._pipeline.close()


def face_arrays(faces: Sequence[Face], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Returns the arrays (F, ...) of ``FACE_OUTPUTS`` whose names are in ``names``."""
    made = {}
    for name, kind, shape in FACE_OUTPUTS:
        if name in names:
            rows = [_VALUES[name](face) for face in faces]
            dtype = np.float64 if kind == "FP64" else np.float32
            made[name] = np.array(rows, dtype).reshape(len(faces), *shape)
    return made


def _blendshapes(face: Face) -> Any:
    values = face.blendshapes
    return np.full(52, np.nan) if values is None else list(values.values())


_VALUES: dict[str, Any] = {
    "boxes": lambda f: (f.box.x, f.box.y, f.box.width, f.box.height),
    "scores": lambda f: f.box.score,
    "crops": lambda f: (f.crop.center_x, f.crop.center_y, f.crop.side, f.crop.angle),
    "landmarks": lambda f: f.landmarks,
    "facing": lambda f: f.facing,
    "pose": lambda f: (f.pose.pitch, f.pose.yaw, f.pose.roll),
    "rotation": lambda f: f.pose.rotation,
    "translation": lambda f: f.pose.translation,
    "scale": lambda f: f.pose.scale,
    "blendshapes": _blendshapes,
}


class _ServedEngine(Engine):
    """An engine that calls the network model of the same server.

    So faces of many requests share its batches.
    """

    def __init__(self, utils: Any, parameters: dict[str, str]) -> None:
        self._utils, self._name = utils, parameters["network"]
        self.info = EngineInfo(
            name=self._name,
            runtime="triton",
            layout=parameters["layout"],
            input_size=int(parameters["input_size"]),
            map_size=int(parameters["map_size"]),
            batch=int(parameters["batch"]),
        )

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        utils = self._utils
        response = utils.InferenceRequest(
            model_name=self._name,
            requested_output_names=["position_map"],
            inputs=[utils.Tensor("image", np.ascontiguousarray(images))],
            preferred_memory=utils.PreferredMemory(utils.TRITONSERVER_MEMORY_CPU),
        ).exec()
        if response.has_error():
            raise PosganError(f"{self._name}: {response.error().message()}")
        maps = utils.get_output_tensor_by_name(response, "position_map").as_numpy()
        return np.array(maps, np.float32)


def _response(utils: Any, make: Any, request: Any) -> Any:
    """Returns the response to a request. An error is returned to the sender of this request
    only."""
    try:
        tensors = [utils.Tensor(name, value) for name, value in make(request).items()]
    except PosganError as error:
        return utils.InferenceResponse(error=utils.TritonError(str(error)))
    return utils.InferenceResponse(output_tensors=tensors)


def _parameters(args: dict[str, str]) -> dict[str, str]:
    config = json.loads(args["model_config"])
    return {name: value["string_value"] for name, value in config["parameters"].items()}


def _utils() -> Any:
    return import_module("triton_python_backend_utils")
