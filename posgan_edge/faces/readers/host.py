"""Reading with the kernels of ``posgan_edge_kernels`` on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Coefficients, Engine
from posgan_edge.faces.readers.base import HostReader, Points
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import pose_of_fit
from posgan_edge.geometry.sampling import facing_of, facing_uv, sample_map


class KernelReader(HostReader):
    """Landmarks and poses by ``kernels``, the module ``posgan_edge_kernels``."""

    def __init__(self, engine: Engine, layout: UvLayout, kernels: Any, **options: Any) -> None:
        super().__init__(engine, layout, **options)
        self._kernels = kernels
        # Pose is fitted in the frame's axes, where y runs down.
        self._mean = (layout.mean_points * Y_UP).astype(np.float32)

    def _points(self, maps: NDArray[np.float32], crops: Sequence[Crop], facing: bool) -> Points:
        layout, read = self.layout, self._kernels.extract_landmarks
        maps = np.ascontiguousarray(maps)
        matrices = np.stack([crop.matrix for crop in crops]).astype(np.float32)
        found = read(maps, layout.landmark_uv, matrices, facing)
        landmarks, cosines = found if facing else (found, None)
        fits = self._kernels.pose_fit(read(maps, layout.mean_uv, matrices), self._mean)
        return Points(landmarks, cosines, [pose_of_fit(fit) for fit in fits])


class CoefficientReader(HostReader):
    """Landmarks and poses from coefficients; the maps are never made.

    What is read of a map at a point is linear in the map, so the modes are read at all points
    once, here.
    """

    def __init__(
        self,
        engine: Engine,
        layout: UvLayout,
        kernels: Any,
        coefficients: Coefficients,
        workers: int = 1,
    ) -> None:
        super().__init__(engine, layout, dense=False, workers=workers)
        self._kernels, self._infer = kernels, coefficients.infer
        size = engine.info.map_size
        modes = coefficients.modes.reshape(-1, 1, size, size)
        marks = layout.landmark_uv
        uv = np.concatenate([marks, layout.mean_uv, facing_uv(marks)])
        read = sample_map(modes, uv)[..., 0].T
        placed, right, left, below, above = np.split(
            read, len(uv) - np.arange(4, 0, -1) * len(marks)
        )
        self._read = np.concatenate([placed, right - left, below - above])
        self._placed = len(placed)
        # Pose is fitted in the frame's axes, where y runs down.
        self._mean = (layout.mean_points * Y_UP).astype(np.float32)

    def _run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._infer(inputs)

    def _points(self, maps: NDArray[np.float32], crops: Sequence[Crop], facing: bool) -> Points:
        found = np.matmul(self._read, maps.transpose(0, 2, 1))
        placed = np.stack(
            [c.to_frame(points[: self._placed]) for c, points in zip(crops, found, strict=True)]
        )
        marks = len(self.layout.landmark_uv)
        fits = self._kernels.pose_fit(np.ascontiguousarray(placed[:, marks:]), self._mean)
        across = np.swapaxes(found[:, self._placed :], 1, 2)
        return Points(
            placed[:, :marks],
            facing_of(across) if facing else None,
            [pose_of_fit(fit) for fit in fits],
        )
