"""The kernels' host path against numpy, PyTorch and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posgan_edge import Crop, load_layout
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.geometry.pose import fit_robust, rotation_from_angles
from posgan_edge.geometry.sampling import sample_map, surface_facing
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, smooth_map

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
UNIT = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
BORDERS = np.array([[0, 0], [1, 1], [1, 0], [0.5, 0.5], [-0.5, 2], [0.001, 0.999]], np.float32)


def matrices(*crops):
    return np.stack([crop.matrix for crop in crops]).astype(np.float32)


def grid_sample(maps, uv):
    grid = torch.from_numpy(uv * 2 - 1)[None, None].expand(len(maps), -1, -1, -1)
    out = torch.nn.functional.grid_sample(
        torch.from_numpy(maps).float(), grid, "bilinear", "border", align_corners=False
    )
    return out[:, :, 0].permute(0, 2, 1).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [1, 2, 3, 65, 128, 257])
def test_points_equal_numpy(size, dtype):
    rng = np.random.default_rng(size)
    maps = rng.random((3, 3, size, size)).astype(dtype)
    uv = np.concatenate([BORDERS, rng.random((200, 2), np.float32)])
    crops = [Crop(300.5, 200.25, 150, 0), Crop(90, 40, 33, 115), Crop(-20, 800, 512, -60)]
    found, facing = kernels.extract_landmarks(maps, uv, matrices(*crops), facing=True)
    assert found.dtype == facing.dtype == np.float32
    read = sample_map(maps.astype(np.float32), uv)
    for points, unit, crop in zip(found, read, crops, strict=True):
        assert np.abs(crop.to_crop(points) - unit).max() < 1e-5
    unit = kernels.extract_landmarks(maps, uv, np.stack([UNIT] * 3))
    assert np.abs(unit - read).max() < 1e-5
    assert np.abs(facing - surface_facing(maps.astype(np.float32), uv)).max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(1, 7), (7, 1), (33, 64), (64, 33), (5, 200)])
def test_points_equal_grid_sample_on_maps_that_are_not_square(height, width):
    rng = np.random.default_rng(height)
    maps = rng.random((2, 3, height, width), np.float32)
    uv = np.concatenate([BORDERS, rng.random((100, 2), np.float32)])
    found = kernels.extract_landmarks(maps, uv, np.stack([UNIT] * 2))
    assert np.abs(found - grid_sample(maps, uv)).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 30),
    st.integers(0, 2**31), st.booleans(),
)  # fmt: skip
def test_points_equal_grid_sample_on_any_shape(faces, height, width, points, seed, half):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(faces, 3, height, width)).astype(np.float16 if half else np.float32)
    uv = rng.uniform(-0.3, 1.3, (points, 2)).astype(np.float32)
    found = kernels.extract_landmarks(maps, uv, np.tile(UNIT, (faces, 1, 1)))
    assert found.shape == (faces, points, 3)
    if faces:
        assert np.abs(found - grid_sample(maps, uv)).max() < 1e-4


def test_nan_in_a_map_comes_out_where_it_is_read():
    maps = np.zeros((1, 3, 8, 8), np.float32)
    maps[0, 1, 2, 3] = np.nan
    uv = np.array([[3.5 / 8, 2.5 / 8], [0.9, 0.9], [np.nan, 0.5]], np.float32)
    points, facing = kernels.extract_landmarks(maps, uv, UNIT[None], facing=True)
    # x and y are mixed by the transform, if only by a zero.
    assert np.isnan(points[0]).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert facing[0, 1] == 0


def test_a_surface_faces_the_camera_or_not():
    v, u = np.meshgrid(*((np.arange(16) / 16,) * 2), indexing="ij")
    front = np.stack([u, v, 0 * u]).astype(np.float32)
    back, edge = front * np.array([-1, 1, 1], np.float32)[:, None, None], np.stack([0 * u, v, u])
    tilted = np.stack([u, v, u]).astype(np.float32)
    maps = np.stack([front, back, edge.astype(np.float32), tilted])
    _, facing = kernels.extract_landmarks(
        maps, np.array([[0.5, 0.5], [0.2, 0.9]], np.float32), np.stack([UNIT] * 4), facing=True
    )
    assert facing == pytest.approx(np.repeat([[1.0], [-1.0], [0.0], [0.5**0.5]], 2, 1), abs=1e-6)


def test_every_half_is_read_as_numpy_reads_it():
    maps = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    maps = np.stack([maps] * 3, 1).reshape(-1, 3, 1, 1)
    transforms = np.tile(UNIT, (len(maps), 1, 1))
    found = kernels.extract_landmarks(maps, np.array([[0.5, 0.5]], np.float32), transforms)[:, 0, 2]
    expected = maps[:, 2, 0, 0].astype(np.float32)
    expected[np.isinf(expected)] = np.nan  # times the zero weights of its neighbours
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("angle", [0.0, 30.0, -135.0])
@pytest.mark.parametrize("side", [40.0, 100.0, 128.0, 181.5, 260.0, 700.0])
def test_crop_reads_the_frame_where_the_transform_says(side, angle):
    v, u = np.meshgrid(np.arange(500) + 0.5, np.arange(500) + 0.5, indexing="ij")
    frame = np.stack([np.zeros_like(u), v / 2, u / 2], -1).round().astype(np.uint8)
    crop = Crop(250.3, 249.7, side, angle)
    (patch,) = kernels.crop_normalize(frame, matrices(crop), 64) * 255
    v, u = np.meshgrid(*(((np.arange(64) + 0.5) / 64,) * 2), indexing="ij")
    where = crop.to_frame(np.stack([u, v], -1))
    inside = ((where > 15) & (where < 485)).all(-1)
    assert np.abs(patch[0] - where[..., 0] / 2)[inside].max() < 0.6
    assert np.abs(patch[1] - where[..., 1] / 2)[inside].max() < 0.6
    assert patch[2].max() == 0


@pytest.mark.parametrize(
    ("side", "limit", "mean"), [(60, 3, 0.6), (128, 3, 0.6), (150, 25, 1.0), (330, 25, 1.5)]
)
def test_crop_agrees_with_the_package_s(side, limit, mean):
    """Bilinear but for OpenCV's fixed point; where it shrinks, another filter of that width."""
    frame = cv2.resize(read_image(PORTRAIT), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    crop = Crop(448, 264, side, 14)
    (found,) = kernels.crop_normalize(frame, matrices(crop), 128)
    difference = np.abs(found - extract_crop(frame, crop, 128)) * 255
    assert difference.max() < limit
    assert difference.mean() < mean


def test_pixels_on_their_own_grid_stay_as_they_are():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (40, 90, 3), np.uint8)
    frame = wide[4:36, 10:42]  # rows with a pitch of their own
    found = kernels.crop_normalize(frame, matrices(Crop(16, 16, 32)), 32)
    np.testing.assert_allclose(found[0], frame[..., ::-1].transpose(2, 0, 1) / 255, atol=1e-6)
    half = kernels.crop_normalize(frame, matrices(Crop(16, 16, 32)), 32, dtype="float16")
    np.testing.assert_array_equal(half, found.astype(np.float16))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-80, 120), st.floats(-80, 120), st.floats(1, 3000), st.floats(-180, 180),
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 24),
)  # fmt: skip
def test_a_frame_of_one_colour_gives_that_colour_or_a_mix_with_the_border(
    x, y, side, angle, height, width, size
):
    frame = np.full((height, width, 3), (10, 20, 30), np.uint8)
    crop = matrices(Crop(x, y, side, angle))
    found = kernels.crop_normalize(frame, crop, size, border=(10, 20, 30))[0] * 255
    assert found == pytest.approx(
        np.broadcast_to(np.array([30, 20, 10], np.float32)[:, None, None], found.shape), abs=0.01
    )
    black = kernels.crop_normalize(frame, crop, size)[0] * 255
    assert (black > -0.01).all()
    assert (black[0] < 30.01).all()


def test_shrinking_averages_and_the_border_is_blended():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    patch = kernels.crop_normalize(stripes, matrices(Crop(256, 256, 512)), 64)[0]
    assert patch[:, 2:-2, 2:-2].std() < 0.01
    assert patch[:, 2:-2, 2:-2].mean() == pytest.approx(0.5, abs=0.01)
    white = np.full((40, 40, 3), 255, np.uint8)
    edge = kernels.crop_normalize(white, matrices(Crop(0, 20, 40)), 40)[0]
    assert edge[:, 20, 18:22].tolist() == [[0, 0, 1, 1]] * 3


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_nv12_equals_its_bgr_picture(matrix, full_range):
    rng = np.random.default_rng(0)
    luma = cv2.GaussianBlur(rng.integers(16, 236, (60, 80), np.uint8), (0, 0), 2)
    chroma = rng.integers(60, 196, (30, 40, 2), np.uint8)
    if matrix == "bt601" and not full_range:
        bgr = cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2BGR_NV12)
    else:
        y = luma.astype(float) if full_range else 255 / 219 * (luma.astype(float) - 16)
        stretch = 1 if full_range else 255 / 224
        u, v = (np.kron(chroma[..., k] - 128.0, np.ones((2, 2))) * stretch for k in (0, 1))
        kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
        r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
        bgr = np.stack([b, (y - kr * r - kb * b) / (1 - kr - kb), r], -1)
        bgr = np.clip(bgr, 0, 255).round().astype(np.uint8)
    transforms = matrices(Crop(40, 30, 30, 20), Crop(40, 30, 90))
    found = kernels.crop_normalize_nv12(
        luma, chroma, transforms, 32, matrix=matrix, full_range=full_range
    )
    expected = kernels.crop_normalize(bgr, transforms, 32)
    assert np.abs(found - expected).max() * 255 < 1.6


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 30, -40), (-60, 85, 170), (5, -50, 90)])
@pytest.mark.parametrize("torn", [0, 90])
def test_pose_equals_numpy(angles, torn):
    rng = np.random.default_rng(0)
    mean = load_layout("ict").mean_points * np.array([1, -1, 1], np.float32)
    points = 150 * mean @ rotation_from_angles(*angles).T + [900, 300, 20]
    points += rng.normal(0, 2, points.shape)
    points[:torn] += 60
    points = points.astype(np.float32)
    for iterations in (1, 4):
        (found,) = kernels.pose_fit(points[None], mean, iterations)
        scale, rotation, shift = fit_robust(mean, points.astype(float), iterations)
        assert found[0] == pytest.approx(scale, rel=1e-5)
        assert found[1:10].reshape(3, 3) == pytest.approx(rotation, abs=1e-5)
        assert found[10:13] == pytest.approx(shift, abs=2e-3)
        off = scale * mean @ rotation.T + shift - points
        assert found[13] == pytest.approx(np.sqrt((off**2).sum(1).mean()) / scale, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 70), st.integers(0, 2**31))
def test_pose_of_any_points_is_a_rotation_that_fits_as_well_as_numpy_s(count, seed):
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(count, 3)).astype(np.float32)
    points = rng.normal(size=(2, count, 3)).astype(np.float32) * 100
    for target, found in zip(points, kernels.pose_fit(points, mean, 1), strict=True):
        rotation = found[1:10].reshape(3, 3).astype(float)
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-4)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-4)
        scale, best, shift = fit_robust(mean, target.astype(float), 1)

        def error(s, r, t, target=target):
            return np.square(s * mean @ r.T + t - target).sum()

        assert error(found[0], rotation, found[10:13]) <= error(scale, best, shift) * (1 + 1e-4)


def test_points_without_a_pose_give_nan():
    mean = smooth_map(4).reshape(3, -1).T.copy()
    same, broken = np.ones_like(mean), mean.copy()
    broken[3, 1] = np.nan
    found = kernels.pose_fit(np.stack([mean, same, broken]), mean)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()
    assert kernels.pose_fit(np.empty((0, 16, 3), np.float32), mean).shape == (0, 14)


MAPS, UV, ONE = (
    np.zeros((2, 3, 4, 4), np.float32),
    np.zeros((5, 2), np.float32),
    np.stack([UNIT] * 2),
)
FRAME, MEAN = np.zeros((4, 4, 3), np.uint8), np.zeros((9, 3), np.float32)
LUMA, CHROMA = np.zeros((5, 6), np.uint8), np.zeros((3, 3, 2), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda k: k.extract_landmarks("map", UV, ONE), TypeError, "maps: give an array"),
        (lambda k: k.extract_landmarks(MAPS.astype(float), UV, ONE), TypeError, "maps: is float"),
        (lambda k: k.extract_landmarks(MAPS[:, :2], UV, ONE), ValueError, "maps: has shape"),
        (lambda k: k.extract_landmarks(MAPS[..., ::2], UV, ONE), ValueError, "maps: must be C"),
        (lambda k: k.extract_landmarks(MAPS[..., :0], UV, ONE), ValueError, r"\(width\): is 0"),
        (lambda k: k.extract_landmarks(MAPS, UV[:0], ONE), ValueError, r"uv \(points\): is 0"),
        (lambda k: k.extract_landmarks(MAPS, UV[:, :1].copy(), ONE), ValueError, "uv: has shape"),
        (lambda k: k.extract_landmarks(MAPS, UV, ONE[:1]), ValueError, "transforms: has shape"),
        (lambda k: k.extract_landmarks(MAPS, UV, ONE * 0), ValueError, "transforms: .*zero scale"),
        (lambda k: k.extract_landmarks(MAPS, UV, ONE * np.nan), ValueError, "transforms: .*finite"),
        (lambda k: k.extract_landmarks(MAPS, UV, ONE * 1e30), ValueError, "transforms: .*finite"),
        (lambda k: k.crop_normalize(FRAME.astype(int), ONE, 8), TypeError, "frame: is int64"),
        (lambda k: k.crop_normalize(FRAME[..., :2], ONE, 8), ValueError, "frame: has shape"),
        (lambda k: k.crop_normalize(FRAME[..., ::-1], ONE, 8), ValueError, "frame: must have cont"),
        (lambda k: k.crop_normalize(FRAME[::-1], ONE, 8), ValueError, "frame: has rows"),
        (lambda k: k.crop_normalize(FRAME[:0], ONE, 8), ValueError, r"frame \(height\): is 0"),
        (lambda k: k.crop_normalize(FRAME, ONE, 0), ValueError, "size: is 0"),
        (lambda k: k.crop_normalize(FRAME, ONE, 8, "int8"), ValueError, "dtype: is 'int8'"),
        (lambda k: k.crop_normalize(FRAME, ONE * 0, 8), ValueError, "transforms: .*zero scale"),
        (lambda k: k.crop_normalize(FRAME, ONE, 8, border=(0, 0, 300)), ValueError, "border: give"),
        (lambda k: k.crop_normalize_nv12(LUMA, CHROMA[:2], ONE, 8), ValueError, "chroma: has"),
        (lambda k: k.crop_normalize_nv12(LUMA, CHROMA, ONE, 8, matrix="x"), ValueError, "matrix: "),
        (lambda k: k.pose_fit(MEAN[None], MEAN[:5]), ValueError, "mean: has shape"),
        (lambda k: k.pose_fit(MEAN[None, :2], MEAN[:2]), ValueError, r"mean \(points\): is 2"),
        (lambda k: k.pose_fit(MEAN[None], MEAN, 0), ValueError, "iterations: is 0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(kernels)


def test_crop_grids_of_no_faces_are_empty():
    assert kernels.crop_normalize(FRAME, ONE[:0], 8).shape == (0, 3, 8, 8)
    assert kernels.extract_landmarks(MAPS[:0], UV, ONE[:0]).shape == (0, 5, 3)


def test_strides_of_nothing_mean_nothing():
    """Numpy 2.4 and later give an array of nothing strides of zero, as this tensor has."""
    maps, transforms = (
        torch.empty(shape).as_strided(shape, (0,) * len(shape))
        for shape in ((0, 3, 4, 4), (0, 2, 3))
    )
    assert kernels.extract_landmarks(maps, UV, transforms).shape == (0, 5, 3)
    assert kernels.crop_normalize(FRAME, transforms, 8).shape == (0, 3, 8, 8)
