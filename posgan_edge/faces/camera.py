"""Camera poses: weak perspective, and a metric pose (PnP) for a camera with known intrinsics."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posgan_edge import arrays
from posgan_edge.arrays import FloatArray
from posgan_edge.errors import BadInput
from posgan_edge.faces.values import Face
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.pose import Pose

#: Distance of the pupils that gives a face its size: the mean of adults (Dodgson, 2004).
PUPILS_MM = 63.0
#: Head axes (y up, z out of the face) to OpenCV's camera axes (y down, z away from the camera).
_TO_CAMERA = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class MetricPose:
    """Where the head is, in OpenCV's camera axes (x right, y down, z away from the camera).

    ``rotation`` (3, 3) and ``rotation_vector`` (3,) turn head axes (x to the picture's right,
    y up, z out of the face) into camera axes; ``translation_mm`` (3,) is the head's centre;
    ``reprojection_px`` the root-mean-square distance of the landmarks from their projections.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, camera_matrix, metric_pose, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> found = metric_pose(face, camera_matrix(900, 900, 256, 256))
    >>> found.rotation.shape, found.reprojection_px < 12
    ((3, 3), True)
    """

    rotation: NDArray[np.float64]
    rotation_vector: NDArray[np.float64]
    translation_mm: NDArray[np.float64]
    reprojection_px: float


def weak_perspective(pose: Face | Pose) -> NDArray[np.float64]:
    """The camera of a face or its pose, (2, 4) float64: it maps points (x, y, z, 1) of the upright
    head (y up, unit radius) to frame pixels (y down). Raises BadInput for other arguments.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, read_image, weak_perspective
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> weak_perspective(face).shape
    (2, 4)
    """
    pose = arrays.instance(pose.pose if isinstance(pose, Face) else pose, Pose, "pose")
    if not np.isfinite([pose.scale, *pose.translation, *pose.rotation.ravel()]).all():
        raise BadInput("the pose is not finite: the fit failed")
    rows = np.column_stack([pose.scale * pose.rotation, pose.translation])[:2]
    matrix: NDArray[np.float64] = rows * Y_UP[:2, None]
    return matrix


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    """(3, 3) intrinsics in pixels; the principal point in continuous coordinates, where the centre
    of the top left pixel is (0.5, 0.5). Raises BadInput if a focal length is not positive.

    >>> from posgan_edge import camera_matrix
    >>> camera_matrix(900, 900, 320, 240)[0].tolist()
    [900.0, 0.0, 320.0]
    """
    for value, name in ((fx, "fx"), (fy, "fy"), (cx, "cx"), (cy, "cy")):
        arrays.number(value, name)
    if not (fx > 0 and fy > 0):
        raise BadInput(f"intrinsics {fx}, {fy}, {cx}, {cy}: focal lengths must be above zero")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def metric_pose(
    face: Face,
    intrinsics: FloatArray,
    distortion: FloatArray | None = None,
    pupils_mm: float = PUPILS_MM,
) -> MetricPose:
    """The head in millimetres before a camera of known ``intrinsics`` (3, 3).

    The object is the face's own 68 points, scaled so that the pupils are ``pupils_mm`` apart.
    OpenCV's iterative PnP starts from the weak-perspective fit. ``distortion`` are OpenCV's 4, 5,
    8, 12 or 14 coefficients. Raises BadInput if no pose is found, and for other arguments.

    >>> from importlib.resources import files
    >>> from posgan_edge import FaceBox, FacePipeline, camera_matrix, metric_pose, read_image
    >>> image = read_image(files("posgan_edge.assets") / "portrait.jpg")
    >>> with FacePipeline("edge") as pipeline:
    ...     (face,) = pipeline.process(image, [FaceBox(179, 88, 97, 90)])
    >>> metric_pose(face, camera_matrix(900, 900, 256, 256)).translation_mm[2] > 300
    True
    """
    pose = arrays.instance(face, Face, "face").pose
    k = np.asarray(arrays.array(intrinsics, "intrinsics", (3, 3)), np.float64)
    if not (k[0, 0] > 0 and k[1, 1] > 0):
        raise BadInput("intrinsics: focal lengths must be above zero")
    coefficients = np.zeros(4)
    if distortion is not None:
        flat = distortion.ravel() if isinstance(distortion, np.ndarray) else distortion
        coefficients = np.asarray(arrays.array(flat, "distortion", (None,)), np.float64)
        if len(coefficients) not in (4, 5, 8, 12, 14):
            raise BadInput(f"distortion has {len(coefficients)} numbers: give OpenCV's")
    pupils_mm = arrays.number(pupils_mm, "pupils_mm", 1, 1000)
    shape = ((face.landmarks * Y_UP - pose.translation) @ pose.rotation) / pose.scale
    pupils = shape[36:42].mean(0) - shape[42:48].mean(0)
    mm = pupils_mm / max(float(np.linalg.norm(pupils)), 1e-9)
    away = k[0, 0] * mm / pose.scale
    at = pose.translation[:2] * Y_UP[:2]
    start = np.array([(at[0] - k[0, 2]) * away / k[0, 0], (at[1] - k[1, 2]) * away / k[1, 1], away])
    vector, _ = cv2.Rodrigues(_TO_CAMERA @ pose.rotation)
    object_points = np.ascontiguousarray(shape * mm)
    image_points = np.ascontiguousarray(face.landmarks[:, :2], np.float64)
    try:
        found, vector, shift = cv2.solvePnP(
            object_points, image_points, k, coefficients, vector, start[:, None].copy(),
            useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE,
        )  # fmt: skip
    except cv2.error as error:
        raise BadInput(f"no metric pose: {error.err}") from error
    if not found or not np.isfinite(shift).all():
        raise BadInput("no metric pose was found for this face")
    projected, _ = cv2.projectPoints(object_points, vector, shift, k, coefficients)
    off = projected[:, 0] - image_points
    return MetricPose(
        np.asarray(cv2.Rodrigues(vector)[0], np.float64),
        np.asarray(vector[:, 0], np.float64),
        np.asarray(shift[:, 0], np.float64),
        float(np.sqrt(np.square(off).sum(1).mean())),
    )
