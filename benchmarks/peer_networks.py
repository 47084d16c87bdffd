"""3DDFA_V2 and PRNet for ``peers.py``, from files that the user has.

The formats are those of the published code: ``TDDFA_ONNX.py``, ``bfm/bfm.py`` and
``utils/tddfa_util.py`` of 3DDFA_V2 (MIT), ``api.py`` and ``predictor.py`` of PRNet (MIT). Neither
was run on its published weights here; the tests write files of the same formats.
"""

from __future__ import annotations

import pickle
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from peer_methods import Ours, Peer, box_of

from posgan_edge.archives import check_array
from posgan_edge.engines.loader import model_path
from posgan_edge.errors import BadInput, one_line
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.faces.detector import Detector
from posgan_edge.files import sha256
from posgan_edge.geometry.crop import BOX_SCALE
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.values import FaceBox

#: 3DDFA_V2's crop, and how its 62 numbers are divided: pose, shape, expression.
TDDFA_SIZE, POSE, SHAPE, EXPRESSION = 120, 12, 40, 10
#: Mean and deviation of the 62 numbers; lies beside the BFM file in the published repository.
MEAN_STD = "param_mean_std_62d_120x120.pkl"
#: PRNet's crop and map, the crop's side over the mean side of the box, and the map's unit.
PRNET_SIZE, PRNET_SCALE, PRNET_UNIT = 256, 1.6, 1.1 * 256
#: All that a pickled numpy array names. Anything else could run code.
_ARRAYS = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"),
        )
    ),
}  # fmt: skip


class Tddfa(Peer):
    """3DDFA_V2: 68 points of the morphable model, on the label box or the detector's.

    ``network`` is its ONNX file, ``bfm`` the pickled model (``bfm_noneck_v3.pkl``) with
    ``MEAN_STD`` in the same folder. Raises BadInput for other files.
    """

    name = "3DDFA_V2"

    def __init__(self, network: str, bfm: str, detector: Detector | None) -> None:
        self._session, self._detector = open_session(network), detector
        size = TDDFA_SIZE
        count = POSE + SHAPE + EXPRESSION
        check_ports(self._session, network, "3DDFA_V2's network", (3, size, size), (count,))
        model = read_arrays(bfm, ("u", "w_shp", "w_exp", "keypoints"))
        indices = model["keypoints"].reshape(-1)
        check_array(indices, f"{bfm}: keypoints", (3 * 68,), "fiu")
        indices = indices.astype(np.int64)
        u = model["u"].reshape(-1)
        shape, expression = model["w_shp"], model["w_exp"]
        check_array(u, f"{bfm}: u", (None,))
        check_array(shape, f"{bfm}: w_shp", (len(u), None))
        check_array(expression, f"{bfm}: w_exp", (len(u), None))
        if shape.shape[1] < SHAPE or expression.shape[1] < EXPRESSION:
            raise BadInput(f"{bfm}: w_shp and w_exp need {SHAPE} and {EXPRESSION} columns")
        if indices.min() < 0 or indices.max() >= len(u):
            raise BadInput(f"{bfm}: keypoints lie outside the {len(u)} numbers of u")
        weights = np.column_stack([shape[:, :SHAPE], expression[:, :EXPRESSION]])
        self._mean, self._basis = u[indices], weights[indices]
        beside = Path(bfm).with_name(MEAN_STD)
        if not beside.is_file():
            raise BadInput(f"{beside}: no such file: 3DDFA_V2 has it in the same folder, configs/")
        scaling = read_arrays(beside, ("mean", "std"))
        self._scale, self._offset = (scaling[k].reshape(-1) for k in ("std", "mean"))
        for key in ("mean", "std"):
            check_array(scaling[key].reshape(-1), f"{beside}: {key}", (count,))
        self._about = {"network": sha256(network), "bfm": sha256(bfm)}

    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        box = box_of(image, face, self._detector)
        if box is None or max(box.width, box.height) < 1:
            return None
        region = region_of(box)
        patch = cv2.resize(cut(image, region), (TDDFA_SIZE, TDDFA_SIZE))
        fed = (patch.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 128
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: fed})
        return self.decoded(found.reshape(-1) * self._scale + self._offset, region)

    def decoded(self, numbers: NDArray[Any], region: NDArray[np.float64]) -> NDArray[Any]:
        """Points (68, 2), continuous in the frame, of 62 numbers of a region (see ``region_of``).

        In the crop they are 1-based and y points up.
        """
        pose = numbers[:POSE].reshape(3, 4)
        points = (self._mean + self._basis @ numbers[POSE:]).reshape(68, 3)
        x, y, _ = pose[:, :3] @ points.T + pose[:, 3:]
        pixels: NDArray[np.float64] = np.column_stack([x - 1, TDDFA_SIZE - y])
        pixels *= (region[2:] - region[:2]) / TDDFA_SIZE
        return pixels + region[:2] + 0.5

    def describe(self) -> dict[str, Any]:
        return {"sha256": self._about, "onnxruntime": version("onnxruntime")}

    def close(self) -> None:
        del self._session


class PrNet(Peer):
    """PRNet as published, converted to ONNX: (N, 256, 256, 3) RGB in [0, 1] to a map of the same
    shape, in units of 1.1 times the crop; on the label box or the detector's."""

    name = "PRNet"

    def __init__(self, session: Any, file: str, detector: Detector | None) -> None:
        self._session, self._detector, self._sha256 = session, detector, sha256(file)
        self._layout = load_layout("prnet")

    def find(self, image: NDArray[Any], face: LabelledFace, attempt: str) -> NDArray[Any] | None:
        box = box_of(image, face, self._detector)
        side = 0 if box is None else int((box.width + box.height) / 2 * PRNET_SCALE)
        if box is None or side < 1:
            return None
        step, corner = side / (PRNET_SIZE - 1), np.array(box.center) - 0.5 - side / 2
        patch = cv2.warpAffine(
            image, np.column_stack([np.eye(2) * step, corner]), (PRNET_SIZE, PRNET_SIZE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )  # fmt: skip
        fed = cv2.cvtColor(patch, cv2.COLOR_BGR2RGB).astype(np.float32)[None] / 255
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: fed})
        pixels = self._layout.landmarks(found[0].transpose(2, 0, 1) * PRNET_UNIT)[:, :2]
        return pixels * step + corner + 0.5

    def describe(self) -> dict[str, Any]:
        return {"sha256": self._sha256, "onnxruntime": version("onnxruntime")}

    def close(self) -> None:
        del self._session


def open_prnet(file: str, detector: Detector | None) -> Peer:
    """PRNet from a file: an ONNX conversion of the published network (see ``PrNet``), or a network
    with 256-pixel maps in the layout ``prnet`` that this package loads. Raises BadInput for others.
    """
    if Path(file).suffix == ".onnx":
        session = open_session(file)
        if session.get_inputs()[0].shape[-1] == 3:
            shape = (PRNET_SIZE, PRNET_SIZE, 3)
            check_ports(session, file, "PRNet", shape, shape)
            return PrNet(session, file, detector)
    ours = Ours(file, detector, PrNet.name)
    info = ours.engine.info
    if (info.layout, info.map_size) != ("prnet", PRNET_SIZE):
        ours.close()
        raise BadInput(
            f"{file}: has maps of {info.map_size} pixels in the layout {info.layout}: PRNet's are "
            f"{PRNET_SIZE} in the layout prnet; give other networks as --engine"
        )
    return ours


def region_of(box: FaceBox) -> NDArray[np.float64]:
    """The square (x0, y0, x1, y1) that 3DDFA_V2 cuts out round landmarks, in pixel indices."""
    half = max(box.width, box.height) * BOX_SCALE / 2
    center = np.array(box.center) - 0.5
    return np.concatenate([center - half, center + half])


def cut(image: NDArray[Any], region: NDArray[np.float64]) -> NDArray[Any]:
    """The whole pixels (h, w, 3) of a region, black outside the picture."""
    x0, y0, x1, y1 = (round(float(value)) for value in region)
    height, width = image.shape[:2]
    patch = np.zeros((max(1, y1 - y0), max(1, x1 - x0), 3), np.uint8)
    left, right = np.clip((x0, x1), 0, width)
    top, bottom = np.clip((y0, y1), 0, height)
    if left < right and top < bottom:
        patch[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return patch


def open_session(file: str) -> Any:
    """An ONNX Runtime session on one core. Raises BadInput for a file that is no network."""
    import onnxruntime as ort  # after posgan_edge, which switches its statistics off

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = model_path(file)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        raise BadInput(f"{file}: not an ONNX model that can be run: {one_line(error)}") from error


def check_ports(
    session: Any, file: str, what: str, taken: tuple[int, ...], returned: tuple[int, ...]
) -> None:
    """Raises BadInput unless the network takes and returns one float32 array (1 or N, ...) each."""
    ports = session.get_inputs(), session.get_outputs()
    for side, wanted in zip(ports, (taken, returned), strict=True):
        shape = side[0].shape
        fits = tuple(shape[1:]) == wanted and (shape[0] == 1 or not isinstance(shape[0], int))
        if len(side) != 1 or side[0].type != "tensor(float)" or not fits:
            found = " -> ".join(str([port.shape for port in side]) for side in ports)
            raise BadInput(f"{file}: not {what}: {found}, not {list(taken)} -> {list(returned)}")


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled dictionaries of numpy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is no array")
        return super().find_class(module, name)


def read_arrays(path: str | Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Arrays of a pickled dictionary. Raises BadInput for any other file; no code of it is run."""
    try:
        with Path(path).open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
        return {key: np.asarray(content[key]) for key in keys}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise BadInput(f"{path}: holds no array {error}") from error
    except Exception as error:  # a damaged pickle raises errors of many kinds
        raise BadInput(f"{path}: not a pickled dictionary of arrays: {one_line(error)}") from error
