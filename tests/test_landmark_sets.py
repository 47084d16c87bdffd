"""benchmarks/landmark_sets.py: places on the map are found again."""

from pathlib import Path

import numpy as np
import pytest

from posgan_edge.geometry.layout import load_layout
from tests.helpers.data import smooth_map

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LAYOUT = load_layout("ict")
UV = LAYOUT.landmark_uv.astype(np.float64)


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import landmark_sets

    return landmark_sets


def faces_at(module, uv, noise=0.0):
    """Forty faces of different size whose points lie at the places ``uv`` of their maps."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.8, 1.2, (40, 1, 1)).astype(np.float32)
    maps = smooth_map(128)[:2].reshape(1, 2, -1) * scale
    empty = module.Faces(maps, np.zeros((40, 68, 2)), np.ones(40), np.ones((40, 2)), scale[:, 0])
    seen = empty.at(uv) + rng.normal(0, noise, (40, 68, 2))
    return module.Faces(maps, seen, np.ones(40), np.ones((40, 2)), scale[:, 0])


def test_every_point_has_its_partner(module):
    mirrored = np.column_stack([1 - UV[:, 0], UV[:, 1]])
    assert np.array_equal(module.MIRROR[module.MIRROR], np.arange(68))
    assert UV[module.MIRROR] == pytest.approx(mirrored, abs=1e-5)


def test_moved_points_stay_the_same_on_both_sides(module):
    uv = module.moved(UV, [36, 30], 2, -3)
    assert (uv[36] - UV[36]) * 128 == pytest.approx([2, -3])
    assert (uv[45] - UV[45]) * 128 == pytest.approx([-2, -3], abs=1e-4)
    assert (uv[30] - UV[30]) * 128 == pytest.approx([0, -3], abs=1e-4)
    assert np.array_equal(np.delete(uv, [30, 36, 45], axis=0), np.delete(UV, [30, 36, 45], axis=0))


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_the_places_are_found_again(module, noise):
    truth = module.moved(UV, range(17, 22), 1.5, -0.5)
    truth = module.moved(truth, [30, 48, 31], 0.5, 3.0)
    faces = faces_at(module, truth, noise)
    found = module.nearest(faces, LAYOUT)
    assert np.abs(found - truth)[17:].max() * 128 < (0.15 if noise == 0 else 0.7)
    assert np.array_equal(found[:17], UV[:17])
    figures = module.remaining(faces, found)["inner"]
    assert figures["offset of a point"] < (0.1 if noise == 0 else 0.2)


def test_faces_on_which_the_networks_differ_are_left_out(module):
    faces = faces_at(module, UV)
    faces.seen[3] += 0.1
    assert len(module.agreeing(faces, UV).sizes) == 39
