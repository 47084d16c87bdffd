"""The two filters behind ``FaceSmoother``: the kernels' equals numpy's."""

from dataclasses import replace

import numpy as np
import pytest

from posgan_edge import Crop, load_layout
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.faces.track_filter import PARTS, KernelFilter, NumpyFilter, track_filter
from posgan_edge.geometry.pose import Pose, angles_from_rotation, rotation_from_angles
from posgan_edge.geometry.values import PositionMap
from tests.helpers.data import smooth_map

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
LAYOUT = load_layout("ict")
SETTINGS = {
    "as shipped": Smoothing(),
    "one setting": replace(Smoothing(), eyes=(0, 0), mouth=(0, 0)),
    "no filter": Smoothing(*[(1e9, 0)] * 6),
    "frozen": Smoothing(*[(0, 0)] * 6),
}


def filters(smoothing):
    shape = smoothing.position, smoothing.size, smoothing.rotation, smoothing.shape
    parts = [getattr(smoothing, part.setting) for part in PARTS]
    return KernelFilter(kernels, shape, parts), NumpyFilter(shape, parts)


def steps(turn, count=25, size=64):
    """(landmarks, pose, seconds, map, crop) of a head that moves and turns ``turn`` degrees a
    frame, with noise; the map has another seed in each frame."""
    rng = np.random.default_rng(3)
    for n in range(count):
        rotation = rotation_from_angles(5, 3, 2) @ rotation_from_angles(0, 0, turn * n)
        if n % 2:
            rotation = rotation_from_angles(turn / 2, turn * n / 3, 0) @ rotation
        pose = Pose(
            *angles_from_rotation(rotation), rotation, 80.0 + n + rng.normal(),
            np.array([300 + 4 * n, -200 + rng.normal(), 5.0 * n]), 0.02,
        )  # fmt: skip
        landmarks = (rng.normal(0, 60, (68, 3)) + np.array([300, 200, 0])).astype(np.float32)
        crop = Crop(300 + n, 200, 250 + n, turn * n)
        yield landmarks, pose, (1 / 30, 1e-3, 2.0)[n % 3], smooth_map(size, n), crop


@pytest.mark.parametrize("turn", [0.0, 3.0, 45.0, 180.0])
@pytest.mark.parametrize("name", SETTINGS)
def test_both_filters_give_the_same(name, turn):
    ours, plain = filters(SETTINGS[name])
    for landmarks, pose, seconds, xyz, crop in steps(turn):
        (points, placed), (expected, reference) = (
            f.step(landmarks, pose, seconds) for f in (ours, plain)
        )
        assert points.dtype == np.float32
        assert np.abs(points - expected).max() < 1e-3
        assert np.abs(placed.rotation - reference.rotation).max() < 1e-8
        assert placed.scale == pytest.approx(reference.scale, rel=1e-9)
        assert placed.translation == pytest.approx(reference.translation, abs=1e-6)
        assert placed.residual == pose.residual
        position_map = PositionMap(xyz, LAYOUT)
        found, wanted = (f.map(position_map, crop) for f in (ours, plain))
        assert np.abs(found.xyz - wanted.xyz).max() < 2e-4 * np.abs(wanted.xyz).max()
        assert found.layout is LAYOUT
    if name == "no filter":
        assert np.abs(points - landmarks).max() < 1e-3
        assert np.abs(found.xyz - xyz).max() < 1e-4


def test_a_map_of_another_size_starts_again():
    for filtering in filters(Smoothing()):
        for size in (32, 64):
            for landmarks, pose, seconds, xyz, crop in steps(3.0, 2, size):
                filtering.step(landmarks, pose, seconds)
                shown = filtering.map(PositionMap(xyz, LAYOUT), crop)
            assert shown.xyz.shape == (3, size, size)


def test_the_kernels_are_used_where_they_have_the_filter(monkeypatch):
    kinds = []
    for found in (kernels, None, np):  # np stands for kernels of an older version
        monkeypatch.setattr(
            "posgan_edge.faces.track_filter.host_kernels", lambda found=found: found
        )
        kinds.append(type(FaceSmoother()._filter).__name__)
    assert kinds == ["KernelFilter", "NumpyFilter", "NumpyFilter"]
    assert track_filter([(1, 1)] * 4, [(1, 1)] * 3) is not None


def new(cutoffs=((1, 1, 1),) * 5, parts=((0, 2, [(0, 1)]),), points=3):
    return kernels.FaceFilter(cutoffs, parts, points)


def stepped(**changes):
    values = {
        "landmarks": np.zeros((3, 3), np.float32), "scale": 1.0, "rotation": np.eye(3),
        "translation": np.zeros(3), "seconds": 0.1,
    }  # fmt: skip
    found = new()
    found.step(**{**values, **changes})
    return found


def mapped(found=None, **changes):
    values = {
        "xyz": np.zeros((3, 4, 4), np.float32), "crop": np.array([[1.0, 0, 0], [0, 1, 0]]),
        "side": 1.0, "windows": np.array([[0, 1, 0, 2]], np.int32),
        "weights": np.ones(2, np.float32),
    }  # fmt: skip
    return (found or stepped()).map(**{**values, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: new(cutoffs=[(1, 1, 1)] * 4), ValueError, "cutoffs: give four, and one for each"),
        (lambda: new(cutoffs=[(-1, 1, 1)] * 5), ValueError, "cutoffs: has numbers that cannot"),
        (lambda: new(cutoffs=[(np.nan, 1, 1)] * 5), ValueError, "cutoffs: has numbers that cannot"),
        (lambda: new(parts=[(0, 4, [(0, 1)])]), ValueError, "parts: has landmarks that are not"),
        (lambda: new(parts=[(0, 2, [(0, 3)])]), ValueError, "parts: has landmarks that are not"),
        (lambda: new(parts=[(0, 2, [])]), ValueError, "parts: has landmarks that are not there"),
        (lambda: new(points=0), ValueError, "points: "),
        (lambda: new(cutoffs=None), TypeError, "NoneType"),
        (lambda: stepped(landmarks=np.zeros((2, 3), np.float32)), ValueError, "landmarks: has s"),
        (lambda: stepped(landmarks=np.zeros((3, 3))), TypeError, "landmarks: is float64"),
        (lambda: stepped(landmarks=np.full((3, 3), np.nan, "f")), ValueError, "landmarks: has n"),
        (lambda: stepped(landmarks="x"), TypeError, "landmarks: give an array"),
        (lambda: stepped(scale=0.0), ValueError, "scale: has numbers"),
        (lambda: stepped(rotation=np.full((3, 3), np.inf)), ValueError, "rotation: has numbers"),
        (lambda: stepped(translation=np.zeros(2)), ValueError, "translation: has shape"),
        (lambda: stepped(seconds=0.0), ValueError, "seconds: has numbers"),
        (lambda: stepped(seconds=np.nan), ValueError, "seconds: has numbers"),
        (lambda: mapped(new()), ValueError, "xyz: no landmarks were filtered before"),
        (lambda: mapped(xyz=np.zeros((3, 4, 5), np.float32)), ValueError, "xyz: is not square"),
        (lambda: mapped(xyz=np.zeros((2, 4, 4), np.float32)), ValueError, "xyz: has shape"),
        (lambda: mapped(crop=np.full((2, 3), np.nan)), ValueError, "crop: has numbers"),
        (lambda: mapped(side=-1.0), ValueError, "side: has numbers"),
        (lambda: mapped(windows=np.array([[0, 5, 0, 2]], np.int32)), ValueError, "windows: lie"),
        (lambda: mapped(windows=np.array([[2, 1, 0, 2]], np.int32)), ValueError, "windows: lie"),
        (lambda: mapped(windows=np.array([[-1, 0, 0, 2]], np.int32)), ValueError, "windows: lie"),
        (lambda: mapped(windows=np.zeros((2, 4), np.int32)), ValueError, "windows: has shape"),
        (lambda: mapped(weights=np.ones(3, np.float32)), ValueError, "weights: are not as many"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_step_leaves_the_filter_as_it_was():
    one, other = new(), new()
    good = {
        "landmarks": np.ones((3, 3), np.float32), "scale": 1.0, "rotation": np.eye(3),
        "translation": np.ones(3), "seconds": 0.1,
    }  # fmt: skip
    for found in (one, other):
        found.step(**good)
    with pytest.raises(ValueError, match="landmarks"):
        one.step(**{**good, "landmarks": np.full((3, 3), np.inf, np.float32)})
    changed = {**good, "landmarks": np.zeros((3, 3), np.float32), "scale": 2.0}
    for left, right in zip(one.step(**changed), other.step(**changed), strict=True):
        assert np.array_equal(left, right)
