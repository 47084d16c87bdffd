"""Reading maps with the kernels of ``posgan_edge_kernels`` on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine
from posgan_edge.faces.readers.base import HostReader, Points
from posgan_edge.geometry.axes import Y_UP
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.layout import UvLayout
from posgan_edge.geometry.pose import pose_of_fit


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
