import json

import numpy as np
import pytest
import torch

from posgan_edge import Crop, FaceBox, FacePipeline, Frame, load_engine
from posgan_edge.engines.base import Engine
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.images import read_image
from posgan_edge.render.draw import draw_faces, shaded_surface
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, write_pack
from tests.record_portrait import RECORD, portrait_landmarks


def ramp(height, width):
    """A picture whose red is the column and whose green is the row (continuous / 2)."""
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    return np.stack([np.zeros_like(u), v / 2, u / 2], -1).round().astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 30.0, -135.0])
@pytest.mark.parametrize("side", [60.0, 128.0, 150.5, 300.0])
def test_crop_reads_the_frame_where_the_transform_says(side, angle):
    crop = Crop(250.3, 249.7, side, angle)
    patch = extract_crop(ramp(500, 500), crop, 128) * 255
    v, u = np.meshgrid(*(((np.arange(128) + 0.5) / 128,) * 2), indexing="ij")
    where = crop.to_frame(np.stack([u, v], -1))
    assert patch.dtype == np.float32
    assert patch.shape == (3, 128, 128)
    # Half a grey level of rounding in the ramp, the reduction and the result.
    assert np.abs(patch[0] - where[..., 0] / 2).max() < 1.6
    assert np.abs(patch[1] - where[..., 1] / 2).max() < 1.6
    assert patch[2].max() == 0


def test_outside_the_frame_is_black():
    patch = extract_crop(np.full((40, 40, 3), 255, np.uint8), Crop(0, 0, 40), 128)
    assert patch[:, :60, :].max() == 0
    assert patch[:, 70:, 70:].min() == 1
    far = extract_crop(np.full((40, 40, 3), 255, np.uint8), Crop(900, 900, 400), 128)
    assert far.max() == 0


def test_minification_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    patch = extract_crop(stripes, Crop(256, 256, 512), 128)
    assert patch.std() < 0.01
    assert patch.mean() == pytest.approx(0.5, abs=0.01)


def test_every_user_of_crops_preprocesses_alike(tmp_path, monkeypatch):
    """Validation, benchmark and run feed the network the same pixels for the same crop."""
    from posgan_edge.evaluation import scoring
    from posgan_edge.faces.readers import base
    from posgan_edge.training import validation
    from posgan_edge.training.datasets import PackMaps

    assert scoring.extract_crop is base.extract_crop is validation.extract_crop is extract_crop  # type: ignore[attr-defined]
    pack = PackMaps(write_pack(tmp_path / "pack"))
    image = pack.image(0)
    seen = []

    class Spy(Engine):
        info = load_engine("edge").info

        def _infer(self, images):
            seen.append(images)
            return np.tile(np.random.default_rng(0).random((1, 3, 128, 128), np.float32),
                           (len(images), 1, 1, 1))  # fmt: skip

    box = FaceBox(60 - 60 / 2**0.5, 60 - 60 / 2**0.5, 120 / 2**0.5, 120 / 2**0.5)
    FacePipeline(Spy(), None, passes=1).process(Frame(image), [box])

    class Model(torch.nn.Module):
        layout, input_size, map_size = "ict", 128, 16

        def forward(self, x):
            seen.append(x.numpy())
            return torch.rand(len(x), 3, 16, 16)

    pack.images = pack.images[:1]
    validation.validation_nme(Model(), pack, torch.device("cpu"))  # type: ignore[arg-type]
    assert seen[0] == pytest.approx(seen[1], abs=1e-6)


@pytest.fixture(scope="module")
def portrait():
    frame = Frame(read_image(PORTRAIT), name="portrait")
    (face,) = FacePipeline(load_engine("edge")).process(frame, [FaceBox(*PORTRAIT_BOX)])
    return frame, face


#: Read off the picture by eye: landmark index, x, y.
BY_EYE = [(36, 195, 101), (45, 258, 104), (30, 224, 127), (8, 222, 178), (48, 203, 140),
          (54, 245, 141)]  # fmt: skip


@pytest.mark.parametrize(("index", "x", "y"), BY_EYE)
def test_portrait_landmarks_lie_on_the_face(portrait, index, x, y):
    _, face = portrait
    assert face.landmarks[index, :2] == pytest.approx((x, y), abs=4)


def test_landmarks_of_the_portrait_are_those_recorded():
    """After new weights: python -m tests.record_portrait, and look at the picture."""
    recorded = np.array(json.loads(RECORD.read_text()))
    assert np.abs(portrait_landmarks() - recorded).max() < 0.5


def test_portrait_pose_is_frontal(portrait):
    _, face = portrait
    assert abs(face.pose.yaw) < 12
    assert abs(face.pose.roll) < 12
    assert abs(face.pose.pitch) < 20


@pytest.mark.parametrize("angle", [40, 90, 180])
def test_turned_portrait_gives_turned_landmarks(portrait, angle):
    frame, face = portrait
    import cv2

    height, width = frame.image.shape[:2]
    crop = Crop(width / 2, height / 2, width, -angle)  # a frame turned clockwise by angle
    upright = (extract_crop(frame.image, crop, width) * 255).astype(np.uint8).transpose(1, 2, 0)
    turned = cv2.cvtColor(upright, cv2.COLOR_RGB2BGR)
    expected = crop.to_crop(face.landmarks) * width
    box = FaceBox.around(expected)
    box = FaceBox(box.x, box.y, box.width, box.height, roll=angle)
    (again,) = FacePipeline(load_engine("edge")).process(Frame(turned), [box])
    error = np.linalg.norm(again.landmarks[:, :2] - expected[:, :2], axis=1).mean()
    assert error < 0.05 * face.box.width
    assert (again.pose.in_plane - face.pose.in_plane - angle + 180) % 360 - 180 == pytest.approx(
        0, abs=6
    )


def test_mirrored_average_is_symmetric(portrait):
    """A picture and its mirror image get mirrored maps once both crops are averaged."""
    frame, _ = portrait
    width = frame.image.shape[1]
    x, y, w, h = PORTRAIT_BOX
    pipeline = FacePipeline(load_engine("edge"), passes=1, mirror=True)
    (face,) = pipeline.process(frame, [FaceBox(x, y, w, h)])
    flipped = Frame(np.ascontiguousarray(frame.image[:, ::-1]))
    (again,) = pipeline.process(flipped, [FaceBox(width - x - w, y, w, h)])
    expected = again.dense_map.xyz[:, :, ::-1].copy()
    expected[0] = 1 - expected[0]
    assert face.dense_map.xyz == pytest.approx(expected, abs=2e-3)


def test_boxes_go_through_in_one_batch(portrait):
    frame, face = portrait
    boxes = [FaceBox(*PORTRAIT_BOX), FaceBox(10, 10, 50, 50), FaceBox(*PORTRAIT_BOX)]
    faces = FacePipeline(load_engine("edge")).process(frame, boxes, keep_all=True)
    assert [f.id for f in faces] == [0, 1, 2]
    assert faces[2].landmarks == pytest.approx(face.landmarks, abs=1e-3)
    assert FacePipeline(load_engine("edge")).process(frame, []) == []


def test_drawing_changes_the_face_and_nothing_far_from_it(portrait):
    frame, face = portrait
    before = frame.image.copy()
    drawn = draw_faces(frame.image, [face])
    assert np.array_equal(frame.image, before)
    assert (drawn[100:160, 190:250] != before[100:160, 190:250]).mean() > 0.5
    assert np.array_equal(drawn[300:], before[300:])
    assert draw_faces(frame.image, [face], scale=2).shape == (1024, 1024, 3)
    _, cover = shaded_surface(face.position_map)
    assert 0.25 < cover.mean() < 0.8


def test_drawing_a_face_outside_the_frame(portrait):
    frame, _ = portrait
    box = FaceBox(-900, -900, 50, 50)
    faces = FacePipeline(load_engine("edge")).process(frame, [box], keep_all=True)
    assert len(faces) == 1
    assert draw_faces(frame.image, faces).shape == frame.image.shape
