import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posgan_edge import Crop, FaceBox
from posgan_edge.errors import BadInput

FINITE = st.floats(-2000, 2000)
CROPS = st.builds(Crop, FINITE, FINITE, st.floats(0.5, 5000), st.floats(-720, 720))


@pytest.mark.parametrize(
    ("crop", "unit", "pixel"),
    [
        (Crop(50, 40, 20), (0.0, 0.0), (40, 30)),
        (Crop(50, 40, 20), (1.0, 1.0), (60, 50)),
        (Crop(50, 40, 20), (0.5, 0.5), (50, 40)),
        # Clockwise on the screen: the crop's right edge points down.
        (Crop(50, 40, 20, 90), (1.0, 0.5), (50, 50)),
        (Crop(50, 40, 20, 90), (0.5, 1.0), (40, 40)),
        (Crop(50, 40, 20, 180), (1.0, 1.0), (40, 30)),
        (Crop(0, 0, 2, -90), (1.0, 0.5), (0, -1)),
    ],
)
def test_crop_maps_known_points(crop, unit, pixel):
    assert crop.to_frame(np.array([unit])) == pytest.approx(np.array([pixel]), abs=1e-5)


def test_depth_follows_the_side_alone():
    crop = Crop(3, 4, 10, 37)
    assert crop.to_frame(np.array([[0.2, 0.3, 0.5]]))[0, 2] == pytest.approx(5.0)
    assert crop.to_crop(np.array([[0.2, 0.3, 5.0]]))[0, 2] == pytest.approx(0.5)


@given(CROPS)
def test_inverse_is_exact(crop):
    forward = np.vstack([crop.matrix, [0, 0, 1]])
    backward = np.vstack([crop.inverse, [0, 0, 1]])
    scale = max(1.0, abs(crop.center_x), abs(crop.center_y)) * max(1.0, 1 / crop.side)
    assert np.abs(backward @ forward - np.eye(3)).max() < 1e-12 * scale * 100


@given(st.floats(-180, 180), st.floats(1, 400))
def test_crop_round_landmarks_holds_them(angle, size):
    points = np.random.default_rng(1).uniform(0, size, (68, 3)).astype(np.float32)
    inside = Crop.from_landmarks(points, angle).to_crop(points)[:, :2]
    spread = np.ptp(inside, axis=0)
    assert spread.max() == pytest.approx(1 / math.sqrt(2), abs=1e-3)
    assert (inside.max(axis=0) + inside.min(axis=0)) / 2 == pytest.approx(0.5, abs=1e-3)


def test_crop_from_box_is_the_protocols():
    crop = Crop.from_box(FaceBox(10, 20, 30, 40, roll=12))
    assert (crop.center_x, crop.center_y, crop.angle) == (25, 40, 12)
    assert crop.side == pytest.approx(40 * math.sqrt(2))


@pytest.mark.parametrize("values", [(0, 0, 0), (0, 0, -1), (math.nan, 0, 1), (0, 0, math.inf)])
def test_impossible_crops_are_refused(values):
    with pytest.raises(BadInput, match="no area or is not finite"):
        Crop(*values)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (FaceBox(0, 0, 2, 2), FaceBox(0, 0, 2, 2), 1.0),
        (FaceBox(0, 0, 2, 2), FaceBox(1, 0, 2, 2), 1 / 3),
        (FaceBox(0, 0, 2, 2), FaceBox(2, 0, 2, 2), 0.0),
    ],
)
def test_iou(a, b, expected):
    assert a.iou(b) == pytest.approx(expected)


def test_a_masked_picture_of_points_is_moved():
    points = np.random.default_rng(0).uniform(0, 50, (4, 5, 3))
    wanted = Crop(40, 30, 20, 10).to_frame(points)
    found = Crop(40, 30, 20, 10).to_frame(np.ma.masked_less(points, 25))
    np.testing.assert_array_equal(found, wanted)
    assert type(found) is np.ndarray
