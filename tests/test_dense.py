"""Depth, mask, texture, camera and the names of the landmarks."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from posgan_edge import Crop, FaceBox, FacePipeline, Frame, load_engine, load_layout
from posgan_edge.errors import BadInput
from posgan_edge.faces.camera import camera_matrix, metric_pose, weak_perspective
from posgan_edge.faces.values import Face
from posgan_edge.geometry.landmarks import LANDMARK_NAMES, openness
from posgan_edge.geometry.mesh import Mesh, face_mesh
from posgan_edge.geometry.pose import Pose, angles_from_rotation, rotation_from_angles
from posgan_edge.images import read_image
from posgan_edge.render.dense import (
    depth_map,
    face_mask,
    filled,
    rasterize,
    uv_texture,
    write_dense,
)
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX


@pytest.fixture(scope="module")
def image():
    return read_image(PORTRAIT)


@pytest.fixture(scope="module")
def face(image):
    return FacePipeline(load_engine("edge")).process(Frame(image), [FaceBox(*PORTRAIT_BOX)])[0]


def flat(vertices, triangles):
    vertices = np.array(vertices, np.float32)
    return Mesh(vertices, np.array(triangles, np.int32), np.zeros((len(vertices), 2), np.float32))


def brute(mesh, height, width):
    """The rasteriser's definition, pixel by pixel."""
    depth = np.full((height, width), np.nan)
    for a, b, c in mesh.vertices[mesh.triangles].astype(float):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        for row in range(height if area else 0):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                wb = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
                wc = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
                if wb >= 0 and wc >= 0 and wb + wc <= 1:
                    z = a[2] + wb * (b[2] - a[2]) + wc * (c[2] - a[2])
                    depth[row, column] = np.nanmax([depth[row, column], z])
    return depth


@pytest.mark.parametrize("seed", range(4))
def test_rasterizing_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    mesh = flat(rng.uniform(-4, 24, (12, 3)), rng.permutation(12).reshape(4, 3))
    raster = rasterize(mesh, 18, 21)
    found = np.full((18, 21), np.nan)
    h, w = raster.depth.shape
    found[raster.top : raster.top + h, raster.left : raster.left + w] = raster.depth
    assert found == pytest.approx(brute(mesh, 18, 21), abs=1e-4, nan_ok=True)


@pytest.mark.filterwarnings("error")
def test_what_lies_outside_or_has_no_area_is_nowhere():
    assert (
        rasterize(flat([(90, 90, 1), (95, 90, 1), (90, 95, 1)], [(0, 1, 2)]), 20, 20).depth.size
        == 0
    )
    line = rasterize(flat([(1, 1, 1), (5, 5, 1), (9, 9, 1)], [(0, 1, 2)]), 20, 20)
    assert np.isnan(line.depth).all()


def test_depth_and_mask_of_the_portrait(face, image):
    depth, mask = depth_map(face, *image.shape[:2]), face_mask(face, *image.shape[:2])
    assert depth.shape == mask.shape == image.shape[:2]
    assert np.array_equal(mask > 0, ~np.isnan(depth))
    x, y = face.landmarks[30, :2].astype(int)
    assert depth[y, x] == pytest.approx(face.landmarks[30, 2], abs=3)
    assert np.nanmax(depth) == pytest.approx(depth[y - 4 : y + 4, x - 4 : x + 4].max(), abs=2)
    area = face.box.width * face.box.height
    assert 0.8 * area < (mask > 0).sum() < 1.6 * area


def test_texture_shows_what_is_seen(face, image):
    shown = uv_texture(face, image, 256)
    assert shown.shape == (256, 256, 4)
    layout = load_layout("ict")
    for name in ("nose tip", 30), ("right brow", 19), ("chin", 8):
        u, v = layout.landmark_uv[name[1]]
        x, y = face.landmarks[name[1], :2]
        pixel = shown[int(v * 256), int(u * 256)]
        around = image[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].reshape(-1, 3).astype(int)
        assert pixel[3] == 255
        assert (pixel[:3] >= around.min(0) - 12).all()
        assert (pixel[:3] <= around.max(0) + 12).all()
    assert not shown[~layout.mask_at(256)].any()


def turned(face, yaw):
    """The face with its head turned about the vertical axis."""
    flip = np.diag([1.0, -1, 1])
    turn = rotation_from_angles(0, yaw, 0)
    center = face.pose.translation * (1, -1, 1)
    matrix = flip @ turn @ face.pose.rotation.T @ flip
    points = face.crop.to_frame(face.position_map.xyz.reshape(3, -1).T)
    moved = (points - center) @ matrix.T + center
    crop = Crop(0.5, 0.5, 1.0)
    from posgan_edge import PositionMap

    xyz = moved.T.reshape(face.position_map.xyz.shape).astype(np.float32)
    return replace(face, crop=crop, position_map=PositionMap(xyz, face.position_map.layout))


@pytest.mark.parametrize(("yaw", "hidden"), [(60, "left"), (-60, "right")])
def test_hidden_cheeks_are_completed_from_the_other_side(face, image, yaw, hidden):
    profile = turned(face, yaw)
    seen = uv_texture(profile, image, 128)[..., 3] > 0
    whole = uv_texture(profile, image, 128, mirrored=True)[..., 3] > 0
    halves = seen[40:90, :64].mean(), seen[40:90, 64:].mean()
    lost = halves[0] if hidden == "left" else halves[1]
    kept = halves[1] if hidden == "left" else halves[0]
    assert lost < 0.65 * kept
    assert (whole & seen).sum() == seen.sum()
    assert np.array_equal(whole, whole[:, ::-1] & whole | whole)
    assert whole[40:90, :64].mean() == pytest.approx(whole[40:90, 64:].mean(), abs=0.03)


def test_holes_take_the_nearest_colour():
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:, :3] = (10, 20, 30, 255)
    picture[:, 6:] = (200, 210, 220, 255)
    closed = filled(picture)
    assert closed[4, 3].tolist() == [10, 20, 30]
    assert closed[4, 5].tolist() == [200, 210, 220]
    assert filled(np.zeros((4, 4, 4), np.uint8)).shape == (4, 4, 3)


def test_written_depth_reads_back(face, image, tmp_path):
    write_dense("depth", face, image, tmp_path / "a.npy")
    write_dense("depth", face, image, tmp_path / "a.png")
    exact = np.load(tmp_path / "a.npy")
    levels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    assert np.array_equal(levels == 0, np.isnan(exact))
    known = ~np.isnan(exact)
    assert np.corrcoef(levels[known], exact[known])[0, 1] > 0.99999
    beside = replace(face, crop=replace(face.crop, center_x=-900.0))
    for kind, name in (("depth", "b.png"), ("depth", "b.npy"), ("mask", "c.png")):
        write_dense(kind, beside, image, tmp_path / name)
    for name in ("b.png", "c.png"):
        assert not cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).any()
    assert np.isnan(np.load(tmp_path / "b.npy")).all()
    with pytest.raises(BadInput, match="a depth is written as"):
        write_dense("depth", face, image, tmp_path / "a.jpg")


def test_a_face_without_a_map_says_so(face):
    with pytest.raises(BadInput, match="has no position map"):
        depth_map(replace(face, position_map=None), 10, 10)


def test_landmark_names():
    assert len(set(LANDMARK_NAMES)) == 68
    for index, name in (
        (0, "jaw_0"),
        (30, "nose_bridge_3"),
        (36, "right_eye_0"),
        (67, "inner_lips_7"),
    ):
        assert LANDMARK_NAMES[index] == name


def test_openness():
    points = np.zeros((68, 3))
    points[[36, 39, 42, 45, 60, 64], 0] = (-3, -1, 1, 3, -1, 1)
    points[[37, 41], 1] = points[[38, 40], 1] = (0.3, -0.3)
    points[[43, 47], 1] = points[[44, 46], 1] = (0.1, -0.1)
    points[[61, 62, 63], 1], points[[65, 66, 67], 1] = 0.5, -0.5
    points[[61, 67, 37, 41, 43, 47], 0] = 0
    points[[63, 65, 38, 40, 44, 46], 0] = 0
    points[[62, 66], 0] = 0
    found = openness(points)
    assert found == pytest.approx({"right_eye": 0.3, "left_eye": 0.1, "mouth": 0.5})
    turn = rotation_from_angles(20, 40, 10)
    assert openness(7 * points @ turn.T) == pytest.approx(found)
    assert openness(np.zeros((68, 3)))["mouth"] == 0


def test_weak_perspective_puts_the_mean_face_on_the_face(face):
    layout = load_layout("ict")
    matrix = weak_perspective(face.pose)
    points = np.column_stack([layout.mean_points, np.ones(len(layout.mean_points))]) @ matrix.T
    low, high = points.min(0), points.max(0)
    assert (low > np.array([face.box.x, face.box.y]) - 0.5 * face.box.width).all()
    assert (high < np.array([face.box.x, face.box.y]) + 1.5 * face.box.width).all()
    assert points.mean(0) == pytest.approx(face.pose.translation[:2] * (1, -1), abs=1e-3)


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 25, -5), (-15, -35, 20)])
@pytest.mark.parametrize("away", [400.0, 1500.0])
def test_metric_pose_finds_a_head_that_a_camera_saw(angles, away):
    """A head of known place and size is projected by a real pinhole, then found again."""
    layout, rng = load_layout("ict"), np.random.default_rng(1)
    head = rng.normal(0, 1, (68, 3)) * (0.6, 0.7, 0.35)
    head[36:48] = [(-0.62 - 0.05 * (i % 3), 0.2, 0.3) for i in range(6)] + [
        (0.62 + 0.05 * (i % 3), 0.2, 0.3) for i in range(6)
    ]
    pupils = np.linalg.norm(head[36:42].mean(0) - head[42:48].mean(0))
    rotation = rotation_from_angles(*angles)
    camera = np.diag([1.0, -1, -1]) @ rotation
    place, k = np.array([60.0, -40.0, away]), camera_matrix(900, 900, 320, 240)
    turn, straight = cv2.Rodrigues(camera)[0], np.zeros(4)  # a lens without distortion
    projected, _ = cv2.projectPoints(head * 63 / pupils, turn, place, k, straight)
    scale = 900 / away * 63 / pupils
    shift = np.array([320 + 900 * 60 / away, -(240 - 900 * 40 / away), 0])
    # Depth and shape as a network that answers weak perspective would see them.
    z = (head @ rotation.T)[:, 2] * scale
    landmarks = np.column_stack([projected[:, 0], z]).astype(np.float32)
    pose = Pose(*angles_from_rotation(rotation), rotation, scale, shift)
    box = FaceBox.around(landmarks)
    face = Face(box, Crop.from_landmarks(landmarks), None, landmarks, np.ones(68, np.float32), pose)
    found = metric_pose(face, k)
    turned = np.degrees(np.linalg.norm(cv2.Rodrigues(found.rotation @ camera.T)[0]))
    near = away < 1000
    assert turned < (12 if near else 4)
    assert found.translation_mm == pytest.approx(place, rel=0.1, abs=12)
    assert found.reprojection_px < (12 if near else 2)
    assert layout.name == "ict"


def test_bad_intrinsics():
    with pytest.raises(BadInput, match="focal lengths must be above zero"):
        camera_matrix(0, 1, 2, 3)


@pytest.mark.parametrize("kind", [".obj", ".glb"])
def test_textured_meshes_read_back(face, image, tmp_path, kind):
    trimesh = pytest.importorskip("trimesh")
    from posgan_edge.render.meshes import save_mesh

    mesh = face_mesh(face.position_map, face.crop)
    save_mesh(mesh, tmp_path / f"a{kind}", image, filled(uv_texture(face, image)))
    loaded = trimesh.load(tmp_path / f"a{kind}", process=False, force="mesh")
    assert len(loaded.faces) == len(mesh.triangles)
    assert loaded.vertices == pytest.approx(mesh.vertices * (1, -1, 1), abs=1e-3)
    assert loaded.visual.uv[:, 0] == pytest.approx(mesh.uv[:, 0], abs=1e-4)
    assert loaded.visual.uv[:, 1] == pytest.approx(1 - mesh.uv[:, 1], abs=1e-4)
    material = loaded.visual.material
    picture = material.image if kind == ".obj" else material.baseColorTexture
    nose = picture.getpixel(tuple((load_layout("ict").landmark_uv[30] * 512).astype(int)))
    x, y = face.landmarks[30, :2].astype(int)
    assert np.abs(np.array(nose[:3]) - image[y, x, ::-1].astype(int)).max() < 60
