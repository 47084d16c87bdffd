from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posgan_edge import PositionMap
from posgan_edge.errors import BadInput
from posgan_edge.geometry.layout import REGIONS, load_layout
from posgan_edge.geometry.sampling import resample_map, sample_map
from tests.helpers.data import smooth_map


def grid_sample(maps: NDArray[Any], uv: NDArray[Any]) -> NDArray[Any]:
    grid = torch.from_numpy(uv * 2 - 1)[None, None].float()
    out = torch.nn.functional.grid_sample(
        torch.from_numpy(maps)[None], grid, padding_mode="border", align_corners=False
    )
    return out[0, :, 0].T.numpy()


@pytest.mark.parametrize(
    ("u", "v", "expected"),
    [
        (0.25, 0.25, 0.0),  # the centre of the first pixel
        (0.75, 0.25, 1.0),
        (0.5, 0.25, 0.5),
        (0.5, 0.5, 1.5),
        (0.0, 0.0, 0.0),  # beyond the outermost centres the edge is held
        (1.0, 1.0, 3.0),
    ],
)
def test_pixel_centre_convention(u, v, expected):
    maps = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    assert sample_map(maps, np.array([[u, v]]))[0, 0] == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**31))
def test_equals_grid_sample(resolution, points, seed):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(3, resolution, resolution)).astype(np.float32)
    uv = rng.uniform(-0.1, 1.1, (points, 2)).astype(np.float32)
    assert sample_map(maps, uv) == pytest.approx(grid_sample(maps, uv), abs=1e-4)


def test_batches_and_nan():
    maps = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    uv = np.random.default_rng(1).uniform(0, 1, (5, 2))
    both = sample_map(maps, uv)
    assert both.shape == (2, 5, 3)
    assert np.array_equal(both[1], sample_map(maps[1], uv))
    assert np.isnan(sample_map(np.full((3, 4, 4), np.nan, np.float32), uv)).all()


@pytest.mark.parametrize("resolution", [4, 8, 16, 31])
def test_resampling_keeps_a_plane(resolution):
    def plane(m):
        return np.broadcast_to((np.arange(m) + 0.5) / m, (1, m, m)).astype(np.float32)

    out = resample_map(plane(16), resolution)
    inside = slice(1, -1)
    assert out[0, :, inside] == pytest.approx(plane(resolution)[0, :, inside], abs=0.035)
    assert resample_map(plane(8), 8) == pytest.approx(plane(8))


def test_maps_resample_for_prnet_style_users():
    big = PositionMap(smooth_map(128), load_layout("ict")).resampled()
    assert (big.resolution, big.layout.name, big.xyz.dtype) == (256, "ict", np.dtype("f4"))
    assert load_layout("ict").landmarks(big.xyz) == pytest.approx(
        load_layout("ict").landmarks(smooth_map(128)), abs=2e-4
    )


@pytest.mark.parametrize(("name", "resolution"), [("ict", 128), ("prnet", 256)])
def test_builtin_layouts(name, resolution):
    layout = load_layout(name)
    assert layout.resolution == resolution
    assert layout.landmark_uv.shape == (68, 2)
    assert ((layout.landmark_uv > 0) & (layout.landmark_uv < 1)).all()
    assert layout.mean_points.shape == (len(layout.mean_uv), 3)
    assert np.sqrt((layout.mean_points**2).sum(1).mean()) == pytest.approx(1, abs=0.02)
    # Left-right symmetric: the outer eye corners mirror each other.
    right, left = layout.landmark_uv[36], layout.landmark_uv[45]
    assert right[0] + left[0] == pytest.approx(1, abs=0.01)


def test_landmark_sets():
    layout = load_layout("ict")
    assert list(layout.landmark_sets) == ["aflw", "300w"]
    assert layout.landmark_set == "aflw"
    human = layout.with_landmarks("300w")
    assert (human.landmark_set, human != layout) == ("300w", True)
    assert human.with_landmarks("aflw") == layout
    moved = (human.landmark_uv - layout.landmark_uv) * layout.resolution
    assert not moved[:17].any()  # the jaw
    assert np.abs(moved).max() < 10
    assert np.abs(moved[17:]).max(axis=1).min() > 0
    # Each set is the same on both sides of the face, and on the face.
    for uv in layout.landmark_sets.values():
        mirrored = np.column_stack([1 - uv[:, 0], uv[:, 1]])
        assert np.abs(uv[:, None] - mirrored[None]).sum(-1).min(axis=0).max() < 1e-5
    column, row = (human.landmark_uv[17:] * layout.resolution).astype(int).T
    assert layout.mask[row, column].all()


@pytest.mark.parametrize("name", ["300", "", None, 3, ["aflw"]])
def test_unknown_landmark_sets(name):
    with pytest.raises(BadInput, match=r"UV layout 'ict' has no landmark set .*'aflw' or '300w'"):
        load_layout("ict").with_landmarks(name)
    with pytest.raises(BadInput, match="UV layout 'prnet' has no landmark set '300w'"):
        PositionMap(smooth_map(256), load_layout("prnet")).landmarks("300w")


def test_landmarks_of_a_map():
    layout, xyz = load_layout("ict"), smooth_map(128)
    found = PositionMap(xyz, layout)
    assert np.array_equal(found.landmarks(), layout.landmarks(xyz))
    assert np.array_equal(found.landmarks("aflw"), found.landmarks())
    human = layout.with_landmarks("300w")
    assert np.array_equal(found.landmarks("300w"), human.landmarks(xyz))
    assert np.array_equal(PositionMap(xyz, human).landmarks(), human.landmarks(xyz))


def test_prnet_landmarks_are_pixel_centres():
    layout = load_layout("prnet")
    assert layout.landmark_uv[0] * 256 - 0.5 == pytest.approx([15, 96], abs=1e-4)
    assert layout.landmark_uv[30] * 256 - 0.5 == pytest.approx([128, 120], abs=30)


def test_weights_are_the_originals_figures():
    weights = load_layout("ict").weights()
    assert set(np.unique(weights)) == {0, 3, 4, 16}
    assert 60 <= (weights == 16).sum() <= 68
    assert (weights > 0).mean() == pytest.approx(load_layout("ict").mask.mean(), abs=0.02)
    assert load_layout("ict").weights(64).shape == (64, 64)


def test_regions_cover_the_68_points_once():
    assert sorted(i for indices in REGIONS.values() for i in indices) == list(range(68))


def test_mask_from_the_users_file(tmp_path):
    mask = np.zeros((256, 256), np.uint8)
    mask[50:200, 60:180] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    layout = load_layout("prnet").with_mask_file(tmp_path / "mask.png")
    assert np.array_equal(layout.mask, mask > 0)
    with pytest.raises(BadInput, match="not a square mask"):
        load_layout("prnet").with_mask_file(tmp_path / "absent.png")


def test_a_mask_may_have_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "mask\udcff.png"
    path.write_bytes(cv2.imencode(".png", np.eye(32, dtype=np.uint8) * 255)[1].tobytes())
    assert np.array_equal(load_layout("prnet").with_mask_file(path).mask, np.eye(32, dtype=bool))


def test_unknown_layout():
    with pytest.raises(BadInput, match="unknown UV layout 'bfm'"):
        load_layout("bfm")
