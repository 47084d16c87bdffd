"""Reading maps with numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posgan_edge.faces.readers.base import HostReader, Points
from posgan_edge.geometry.crop import Crop
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.geometry.sampling import surface_facing


class NumpyReader(HostReader):
    """Landmarks and poses by numpy."""

    def _points(self, maps: NDArray[np.float32], crops: Sequence[Crop], facing: bool) -> Points:
        layout = self.layout
        found = layout.landmarks(maps)
        return Points(
            np.stack([crop.to_frame(points) for crop, points in zip(crops, found, strict=True)]),
            surface_facing(maps, layout.landmark_uv) if facing else None,
            [fit_pose(xyz, layout, crop) for crop, xyz in zip(crops, maps, strict=True)],
        )
