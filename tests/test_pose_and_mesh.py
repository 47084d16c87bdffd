from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posgan_edge import Crop, PositionMap, load_layout
from posgan_edge.errors import BadInput
from posgan_edge.geometry.mesh import face_mesh, triangulate_mask, vertex_normals
from posgan_edge.geometry.pose import (
    angles_from_rotation,
    fit_pose,
    fit_similarity,
    rotation_from_angles,
)
from posgan_edge.render.meshes import save_mesh
from tests.helpers.data import smooth_map

ANGLES = st.tuples(st.floats(-170, 170), st.floats(-88, 88), st.floats(-170, 170))


@given(ANGLES)
def test_angles_survive_the_rotation(angles):
    assert angles_from_rotation(rotation_from_angles(*angles)) == pytest.approx(angles, abs=1e-6)


@pytest.mark.parametrize("yaw", [90, -90])
def test_gimbal_lock_keeps_the_rotation(yaw):
    rotation = rotation_from_angles(25, yaw, 0)
    again = rotation_from_angles(*angles_from_rotation(rotation))
    assert again == pytest.approx(rotation, abs=1e-7)


@pytest.mark.parametrize(
    ("angles", "point", "expected"),
    [
        # y-up space: a positive yaw turns the nose (+z) to the left of the picture.
        ((0, 90, 0), (0, 0, 1), (-1, 0, 0)),
        ((90, 0, 0), (0, 0, 1), (0, 1, 0)),
        ((0, 0, 90), (1, 0, 0), (0, -1, 0)),
    ],
)
def test_convention(angles, point, expected):
    assert rotation_from_angles(*angles) @ point == pytest.approx(expected, abs=1e-12)


@given(ANGLES, st.floats(0.1, 10))
def test_similarity_is_found(angles, scale):
    rng = np.random.default_rng(0)
    source, shift = rng.normal(size=(30, 3)), rng.normal(size=3)
    rotation = rotation_from_angles(*angles)
    found = fit_similarity(source, scale * source @ rotation.T + shift)
    assert found[0] == pytest.approx(scale)
    assert found[1] == pytest.approx(rotation, abs=1e-8)
    assert found[2] == pytest.approx(shift, abs=1e-8)


class _FlatLayout:
    """A layout whose mean face is what a given map holds at a few points."""

    def __init__(self, maps: NDArray[Any]):
        from posgan_edge.geometry.sampling import sample_map

        self.mean_uv = np.random.default_rng(2).uniform(0.1, 0.9, (60, 2))
        points = sample_map(maps, self.mean_uv) * (1, -1, 1)
        self.mean_points = points - points.mean(0)


@pytest.mark.parametrize("crop_angle", [0.0, 35.0, -120.0])
def test_pose_of_a_map_with_outliers(crop_angle):
    face = smooth_map(32)
    layout = _FlatLayout(face)
    rotation = rotation_from_angles(12, -30, 0)
    turned = np.einsum("ij,jhw->ihw", np.diag([1, -1, 1]) @ rotation @ np.diag([1, -1, 1]), face)
    turned = turned.astype(np.float32)
    turned[:, :4, :] += 0.2  # an eighth of the map is torn off
    pose = fit_pose(turned, layout, Crop(0, 0, 1, crop_angle), iterations=20)  # type: ignore[arg-type]
    level = rotation_from_angles(0, 0, crop_angle) @ rotation
    assert pose.rotation == pytest.approx(level, abs=0.03)
    if crop_angle == 0:
        assert (pose.pitch, pose.yaw, pose.roll) == pytest.approx((12, -30, 0), abs=1.5)


def test_in_plane_angle_is_the_crop_that_levels():
    face = smooth_map(32)
    pose = fit_pose(face, _FlatLayout(face), Crop(50, 60, 200, 40))  # type: ignore[arg-type]
    assert pose.in_plane == pytest.approx(40, abs=0.1)


def test_a_map_with_nan_has_no_pose_and_another_layout_s_face_fits_badly():
    layout, rng = load_layout("ict"), np.random.default_rng(0)
    assert np.isnan(fit_pose(np.full((3, 8, 8), np.nan, np.float32), layout).residual)
    noise = fit_pose(rng.normal(size=(3, 32, 32)).astype(np.float32), layout)
    assert noise.residual > 0.5


def test_every_whole_block_gives_two_triangles():
    mask = np.ones((4, 5), bool)
    mask[0, 0] = False
    inside, triangles = triangulate_mask(mask)
    assert len(inside) == 19
    assert triangles.shape == (2 * (3 * 4 - 1), 3)


def test_normals_of_a_plane_face_the_camera():
    v, u = np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij")
    vertices = np.stack([u.ravel(), v.ravel(), np.zeros(16)], 1)
    _, triangles = triangulate_mask(np.ones((4, 4), bool))
    assert vertex_normals(vertices, triangles) == pytest.approx(np.tile([0, 0, 1.0], (16, 1)))


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_mesh_file_reads_back(tmp_path, suffix):
    layout = load_layout("ict")
    mesh = face_mesh(PositionMap(smooth_map(128), load_layout("ict")), Crop(100, 80, 60))
    assert len(mesh.vertices) == layout.mask.sum()
    image = np.full((200, 200, 3), (10, 20, 30), np.uint8)
    save_mesh(mesh, tmp_path / f"face{suffix}", image)
    loaded: Any = trimesh.load(tmp_path / f"face{suffix}", process=False)
    assert loaded.vertices == pytest.approx(mesh.vertices * (1, -1, 1), abs=1e-3)
    assert len(loaded.faces) == len(mesh.triangles)
    assert loaded.visual.vertex_colors[0, :3].tolist() == [30, 20, 10]
    assert (loaded.face_normals[:, 2] > 0).mean() > 0.99


def test_unknown_mesh_type(tmp_path):
    mesh = face_mesh(PositionMap(smooth_map(128), load_layout("ict")), Crop(100, 80, 60))
    with pytest.raises(BadInput, match=r"use \.obj, \.ply, \.glb"):
        save_mesh(mesh, tmp_path / "face.stl")
    assert list(tmp_path.iterdir()) == []
