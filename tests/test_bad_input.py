"""Arguments of other kinds than asked for: one BadInput each, and everything goes on usable."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from posgan_edge import (
    Crop,
    ExpressionTrack,
    Face,
    FaceBox,
    FacePipeline,
    FaceTracker,
    Frame,
    MediaPipeDetector,
    PosganError,
    PositionMap,
    arrays,
    blendshapes,
    camera_matrix,
    depth_map,
    face_mask,
    face_mesh,
    load_engine,
    load_layout,
    metric_pose,
    openness,
    read_faces,
    read_image,
    save_mesh,
    uv_texture,
    weak_perspective,
)  # fmt: skip
from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.errors import BadInput, MissingRuntime, needing
from posgan_edge.faces.assignment import assign
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.faces.detector import GivenBoxes, detected
from posgan_edge.faces.one_euro import OneEuro
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.geometry.crop import BOX_SCALE
from posgan_edge.geometry.mesh import Mesh
from posgan_edge.geometry.pose import fit_pose, fit_similarity, rotation_from_angles
from posgan_edge.geometry.sampling import resample_map, sample_map
from posgan_edge.render.draw import draw_faces
from tests.helpers.data import mean_face_map

LAYOUT = load_layout("ict")
BOX = FaceBox(16, 8, 32, 32)
#: A picture with a bright square where the face is.
GOOD = np.zeros((48, 64, 3), np.uint8)
GOOD[8:40, 16:48] = 200
NAN, INF = math.nan, math.inf

#: What is no picture, and what the message says of it.
NO_PICTURES: dict[str, tuple[Any, str]] = {
    "none": (None, "is None"),
    "float": (1.5, "is 1.5"),
    "bool": (True, "is True"),
    "text": ("photo.jpg", "is 'photo.jpg'"),
    "list": ([[1, 2, 3]], "is a list"),
    "empty": (np.empty((0, 0, 3), np.uint8), r"uint8 \(0, 0, 3\)"),
    "no width": (np.empty((5, 0, 3), np.uint8), r"uint8 \(5, 0, 3\)"),
    "channels first": (np.zeros((3, 48, 64), np.uint8), r"uint8 \(3, 48, 64\)"),
    "batch": (np.zeros((2, 48, 64, 3), np.uint8), r"uint8 \(2, 48, 64, 3\)"),
    "grey": (np.zeros((48, 64), np.uint8), r"uint8 \(48, 64\)"),
    "alpha": (np.zeros((48, 64, 4), np.uint8), r"uint8 \(48, 64, 4\)"),
    "16 bits": (GOOD.astype(np.uint16), r"uint16 \(48, 64, 3\)"),
    "float32": (GOOD.astype(np.float32), r"float32 \(48, 64, 3\)"),
    "objects": (GOOD.astype(object), r"object \(48, 64, 3\)"),
    "too long": (np.zeros((1, 40_000, 3), np.uint8), "1 to 32766 pixels a side"),
    "pillow": (Pillow.fromarray(GOOD), "is a Image"),
    "torch": (torch.zeros(48, 64, 3, dtype=torch.uint8), r"a torch Tensor, torch.uint8 \(48, 64"),
}


class TinyEngine(Engine):
    """Returns the mean face where the crop is bright, or what ``maps`` says instead."""

    info = EngineInfo("tiny", "test", "ict", 32, 32)

    def __init__(self, maps=None):
        # Round (0, 0), the landmarks' box of side 1.
        middle = np.array([0.5, 0.5, 0], np.float32)[:, None, None]
        self.face = (mean_face_map("ict", 32) - middle) * np.float32(BOX_SCALE)
        self.maps = maps

    def _infer(self, images):
        if self.maps is not None:
            return np.repeat(self.maps[None], len(images), 0)
        rows, columns = np.nonzero(images[0, 0] > 0.4)
        middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5, 0], np.float32) / 32
        side = np.float32(np.sqrt(len(rows)) / 32)
        return np.repeat((self.face * side + middle[:, None, None])[None], len(images), 0)


def one_face(**changes):
    (face,) = FacePipeline(TinyEngine(), reader="numpy").process(GOOD, [BOX])
    return replace(face, **changes)


def holed(face):
    xyz = face.position_map.xyz.copy()
    xyz[:, 16, 16] = NAN
    return replace(face, position_map=PositionMap(xyz, LAYOUT))


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_named_by_everything_that_takes_one(name, tmp_path):
    value, said = NO_PICTURES[name]
    pipeline, face = FacePipeline(TinyEngine(), GivenBoxes([BOX])), one_face()
    with FaceTracker(TinyEngine(), GivenBoxes([BOX]), background=False) as tracker:
        calls = [
            lambda: pipeline.process(value),
            lambda: pipeline.process(Frame(value)),
            lambda: pipeline.at_crops(value, [Crop(20, 20, 30)]),
            lambda: tracker.update(value, 0.0),
            lambda: tracker.update(Frame(value)),
            lambda: extract_crop(value, Crop(20, 20, 30), 8),
            lambda: uv_texture(face, value),
            lambda: draw_faces(value, [face]),
            lambda: draw_faces(GOOD, [face], out=1 if value is None else value),  # type: ignore[arg-type]
            lambda: face_mesh(face).colors(value),
            lambda: save_mesh(face, tmp_path / "a.obj", 1 if value is None else value),  # type: ignore[arg-type]
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(BadInput) as error:
                call()
            assert "\n" not in str(error.value)
            if value is not None:
                assert re.search(said, str(error.value)), error.value
        assert len(tracker.update(GOOD, 1.0)) == 1
    assert list(tmp_path.iterdir()) == []


NO_NUMBERS = [None, NAN, INF, -INF, 1e300, 10**400, "1", True, [1.0], np.zeros(2), 1j]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_everywhere(value):
    face, smoother = one_face(), FaceSmoother()
    pipeline = FacePipeline(TinyEngine(), GivenBoxes([BOX]))
    calls = [
        lambda: FaceBox(value, 0, 1, 1),
        lambda: FaceBox(0, 0, value, 1),
        lambda: FaceBox(0, 0, 1, 1, roll=value),
        lambda: Crop(value, 0, 1),
        lambda: Crop(0, 0, value),
        lambda: Crop(0, 0, 1, value),
        lambda: Crop.from_landmarks(face.landmarks, value),
        lambda: pipeline.process(GOOD, max_faces=value),
        lambda: pipeline.at_crops(GOOD, [Crop(20, 20, 30)], passes=value),
        lambda: pipeline.at_crops(GOOD, [Crop(20, 20, 30)], scores=[value]),
        lambda: FacePipeline(TinyEngine(), passes=value),
        lambda: FacePipeline(TinyEngine(), workers=value),
        lambda: FaceTracker(TinyEngine(), GivenBoxes([]), max_faces=value),
        lambda: FaceTracker(TinyEngine(), GivenBoxes([]), redetect=value),
        lambda: pipeline.process(Frame(GOOD, timestamp=value)),
        lambda: smoother(face, value),
        lambda: Smoothing(position=(value, 1)),
        lambda: camera_matrix(value, 1, 2, 3),
        lambda: metric_pose(face, camera_matrix(90, 90, 32, 24), pupils_mm=value),
        lambda: rotation_from_angles(value, 0, 0),
        lambda: depth_map(face, value, 5),
        lambda: face_mask(face, (5, value)),
        lambda: uv_texture(face, GOOD, size=value),
        lambda: draw_faces(GOOD, [face], scale=value),
        lambda: extract_crop(GOOD, Crop(20, 20, 30), value),
        lambda: resample_map(face.position_map.xyz, value),
        lambda: face.position_map.resampled(value),
        lambda: LAYOUT.mask_at(value),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(BadInput) as error:
            call()
        assert "\n" not in str(error.value), number
    assert smoother(face, 0.0) is not None


@pytest.mark.parametrize("size", [0, -3, 2.5, 40_000, 10**12])
def test_sizes_below_one_or_absurd_are_refused(size):
    face = one_face()
    for call in (
        lambda: depth_map(face, size, 5),
        lambda: depth_map(face, 5, size),
        lambda: face_mask(face, (size, 5)),
        lambda: uv_texture(face, GOOD, size),
        lambda: extract_crop(GOOD, Crop(20, 20, 30), size),
        lambda: resample_map(face.position_map.xyz, size),
        lambda: LAYOUT.weights(size),
    ):
        with pytest.raises(BadInput, match="give a whole number from"):
            call()


#: Values that are neither True nor False.
NO_FLAGS: list[object] = [None, "yes", 2, 1.0, [], np.zeros(3), np.array(True), BOX]


@pytest.mark.parametrize("value", NO_FLAGS, ids=arrays.described)
def test_what_is_neither_true_nor_false_is_refused(value):
    face, pipeline = one_face(), FacePipeline(TinyEngine(), GivenBoxes([BOX]))
    engine, detector = TinyEngine(), GivenBoxes([BOX])
    calls = [
        lambda: pipeline.process(GOOD, keep_all=value),
        lambda: FacePipeline(engine, dense=value),
        lambda: FacePipeline(engine, mirror=value),
        *(
            lambda name=name: FaceTracker(engine, detector, **{name: value})
            for name in ("smooth", "dense", "mirror", "expressions")
        ),
        lambda: FaceSmoother(dense=value),
        lambda: ExpressionTrack(smooth=value),
        lambda: MediaPipeDetector(thorough=value),
        lambda: draw_faces(GOOD, [face], dense=value),
        lambda: draw_faces(GOOD, [face], label=value),
        lambda: uv_texture(face, GOOD, mirrored=value),
    ]
    if value is not None:
        calls.append(lambda: FaceTracker(engine, detector, background=value))
    for call in calls:
        with pytest.raises(BadInput, match="give True or False"):
            call()
    assert len(pipeline.process(GOOD, keep_all=np.True_)) == 1  # type: ignore[arg-type]
    assert arrays.flag(1, "x") is True


LAYOUT_FIELDS: list[tuple[str, Any]] = [
    ("name", 3), ("resolution", 0), ("resolution", 64), ("resolution", None),
    ("mask", np.ones((128, 128))), ("mask", np.ones((128, 64), bool)), ("mask", None),
    ("landmark_uv", np.zeros((67, 2))), ("landmark_uv", np.full((68, 2), 1.5)),
    ("landmark_uv", np.full((68, 2), NAN)), ("mean_uv", np.zeros((3, 2))), ("mean_uv", None),
    ("mean_points", np.zeros((3, 3))), ("mean_points", np.full((len(LAYOUT.mean_uv), 3), INF)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), LAYOUT_FIELDS, ids=str)
def test_a_layout_has_fitting_arrays(name, value):
    with pytest.raises(BadInput) as error:
        replace(LAYOUT, **{name: value})
    assert "\n" not in str(error.value)


POSE_FIELDS: list[tuple[str, Any]] = [
    ("pitch", None), ("yaw", "1"), ("roll", True), ("scale", [1.0]), ("residual", np.zeros(2)),
    ("rotation", None), ("rotation", np.eye(4)), ("rotation", np.eye(3, dtype=int)),
    ("translation", np.zeros(2)), ("translation", [0, 0, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), POSE_FIELDS, ids=str)
def test_a_pose_has_numbers_and_a_rotation(name, value):
    with pytest.raises(BadInput, match=rf"Pose\.{name} is"):
        replace(one_face().pose, **{name: value})


def other_arguments(value: Any) -> list[Any]:
    """Calls with a value that is none of those that the parameter takes."""
    face, track = one_face(), ExpressionTrack()
    return [
        lambda: BOX.iou(value),
        lambda: Crop.from_box(BOX, value),
        lambda: Crop.from_landmarks(face.landmarks, 0.0, value),
        lambda: fit_pose(face.dense_map.xyz, value),
        lambda: fit_pose(face.dense_map.xyz, LAYOUT, None, value),
        lambda: LAYOUT.with_mask_file(value),
        lambda: FaceSmoother(value),
        lambda: ExpressionTrack(value),
        lambda: track.update(value, 0.1),
        lambda: track.update(np.zeros((3, 5), np.float32), value),
        lambda: track.follow(value, 0.1),
        lambda: blendshapes(face, value),
        lambda: blendshapes(face, track, value),
        lambda: metric_pose(face, camera_matrix(90, 90, 32, 24), value),
        lambda: replace(face, id=value),
        lambda: FacePipeline(TinyEngine(), value),
        lambda: FacePipeline(TinyEngine(), reader=value),
        lambda: FacePipeline(TinyEngine()).at_crops(GOOD, [face.crop], value),
        lambda: TinyEngine().warm_up(value),
        lambda: TinyEngine().infer_all(value),
        lambda: list(read_faces(value)),
        lambda: MediaPipeDetector().detect_turned(GOOD, value),
    ]


@pytest.mark.parametrize(
    "value", ["x", np.zeros((2, 3, 4)), {1}, 1j, b"", object()], ids=arrays.described
)
def test_what_a_parameter_does_not_take_is_one_line(value):
    for number, call in enumerate(other_arguments(value)):
        with pytest.raises(PosganError) as error:
            call()
        assert "\n" not in str(error.value), number


def test_a_tracker_is_told_of_faces_by_whole_numbers():
    with FaceTracker(
        TinyEngine(), GivenBoxes([BOX]), background=False, expressions=True
    ) as tracker:
        tracker.update(GOOD, 0.0)
        odd: list[Any] = ["0", 1.5, np.zeros(3), True]
        for value in odd:
            with pytest.raises(BadInput, match="id is"):
                tracker.set_neutral(value)
        tracker.set_neutral(0)


NO_POINTS = [
    None, 3, "x", [], [[1, 2], [3]], np.zeros(68), np.zeros((68, 4)), np.zeros((67, 3)),
    np.full((68, 3), NAN), np.full((68, 3), INF), np.zeros((68, 3), object),
    np.zeros((3, 68, 3)), torch.zeros(68, 3), np.full((68, 3), "a"),
]  # fmt: skip


@pytest.mark.parametrize("value", NO_POINTS, ids=lambda v: arrays.described(v))
def test_what_is_no_set_of_68_points_is_refused(value):
    face = one_face()
    for call in (lambda: openness(value), lambda: replace(face, landmarks=value)):
        with pytest.raises(BadInput, match="landmarks"):
            call()
    wrong = not (isinstance(value, np.ndarray) and value.shape == (67, 3))
    if wrong:
        for call in (lambda: FaceBox.around(value), lambda: Crop.from_landmarks(value)):
            with pytest.raises(BadInput, match="points"):
                call()


@pytest.mark.parametrize("value", [None, 3, 1.5, True, [], {}], ids=repr)
def test_what_is_no_path_is_refused(value):
    for call in (read_image, load_engine, lambda v: save_mesh(one_face(), v)):
        with pytest.raises(BadInput) as error:
            call(value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, 3, "face", [], np.zeros(5), NAN, object()], ids=repr)
def test_what_is_no_face_map_crop_or_box_is_refused(value, tmp_path):
    pipeline, k = FacePipeline(TinyEngine()), camera_matrix(90, 90, 32, 24)
    faces: Any = None if isinstance(value, list) else value
    for call in (
        lambda: face_mesh(value),
        lambda: face_mesh(one_face().position_map, "crop"),  # type: ignore[arg-type]
        lambda: depth_map(value, 5, 5),
        lambda: face_mask(value, GOOD),
        lambda: uv_texture(value, GOOD),
        lambda: metric_pose(value, k),
        lambda: weak_perspective(value),
        lambda: openness(value),
        lambda: blendshapes(value),
        lambda: save_mesh(value, tmp_path / "a.obj"),
        lambda: draw_faces(GOOD, [value]),
        lambda: draw_faces(GOOD, faces),
        lambda: FaceSmoother()(value, 0.0),
        lambda: Crop.from_box(value),
        lambda: GivenBoxes([value]),
        lambda: pipeline.process(GOOD, [value]),
        lambda: pipeline.process(GOOD, 3 if isinstance(value, list) else value),  # type: ignore[arg-type]
        lambda: pipeline.at_crops(GOOD, [value]),
        lambda: extract_crop(GOOD, value, 8),
        lambda: fit_pose(value, LAYOUT),
        lambda: sample_map(value, LAYOUT.mean_uv),
        lambda: PositionMap(value, LAYOUT),
        lambda: Mesh(value, value, value),
        lambda: assign(value),
        lambda: load_layout(value),
        lambda: Face(value, value, value, value, value, value),
    ):
        with pytest.raises(BadInput) as error:
            call()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_map_with_a_hole_makes_no_mesh_depth_texture_or_filtered_face(tmp_path):
    face, smoother = one_face(), FaceSmoother()
    first = smoother(face, 0.0)
    for call in (
        lambda: face_mesh(holed(face)),
        lambda: depth_map(holed(face), GOOD),
        lambda: uv_texture(holed(face), GOOD),
        lambda: save_mesh(holed(face), tmp_path / "a.obj"),
        lambda: smoother(holed(face), 0.1),
    ):
        with pytest.raises(BadInput, match="not finite"):
            call()
    assert np.isfinite(smoother(face, 0.1).dense_map.xyz).all()
    assert smoother(face, 0.2).landmarks == pytest.approx(first.landmarks, abs=1e-3)


def test_a_filter_stays_as_it_was_after_bad_values():
    one = OneEuro(1.0, 1.0)
    one(np.zeros(3), 1 / 30)
    bad: list[Any] = [
        (np.full(3, NAN), 0.1), (np.full(3, INF), 0.1), (np.zeros(4), 0.1), (None, 0.1), (3, 0.1),
        (np.array(["a"] * 3), 0.1), (np.ones(3), 0.0), (np.ones(3), NAN), (np.ones(3), -1.0),
    ]  # fmt: skip
    for value, seconds in bad:
        with pytest.raises(BadInput):
            one(value, seconds)
    assert one(np.zeros(3), 1 / 30).tolist() == [0, 0, 0]


def test_a_fit_takes_matching_finite_points_only():
    points = np.random.default_rng(0).normal(size=(9, 3))
    nothing: Any = None
    for source, target, weights in (
        (points, points[:8], None), (points, points, np.ones(8)), (points * NAN, points, None),
        (points[:, :2], points[:, :2], None), (nothing, points, None),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            fit_similarity(source, target, weights)


def test_coordinates_far_out_are_refused_and_numpy_numbers_become_plain():
    with pytest.raises(BadInput, match=r"FaceBox\.x is 2000000\.0"):
        FaceBox(2e6, 0, 1, 1)
    with pytest.raises(BadInput, match="sides must not be negative"):
        FaceBox(0, 0, -1, 1)
    box = FaceBox(*np.array([1.5, 2, 3, 4], np.float32), score=np.float64(0.5))  # type: ignore[arg-type, misc]
    assert [type(v) for v in (box.x, box.width, box.score)] == [float] * 3


NO_FACES = {
    "nan": np.full((3, 32, 32), NAN, np.float32),
    "inf": np.full((3, 32, 32), INF, np.float32),
    "zeros": np.zeros((3, 32, 32), np.float32),
    "1e30": np.full((3, 32, 32), 1e30, np.float32),
    "huge and uneven": np.linspace(-1e30, 1e30, 3072, dtype=np.float32).reshape(3, 32, 32),
    "noise": np.random.default_rng(0).normal(0.5, 0.4, (3, 32, 32)).astype(np.float32),
    "a hole": np.where(
        np.arange(1024).reshape(32, 32) == 500, NAN, TinyEngine().face * 0.7 + 0.5
    ).astype("f"),
}


@pytest.mark.parametrize("reader", ["numpy", "host"])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", NO_FACES)
def test_a_network_that_gives_no_face_gives_no_faces_and_is_counted(name, passes, reader):
    if reader == "host":
        pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
    engine = TinyEngine(NO_FACES[name])
    pipeline = FacePipeline(engine, None, passes, reader=reader)
    with np.errstate(all="ignore"):
        assert pipeline.process(GOOD, [BOX, BOX]) == []
    assert pipeline.rejected == 2
    with FaceTracker(engine, GivenBoxes([BOX]), background=False) as tracker:
        for number in range(3):
            assert tracker.update(GOOD, number / 2) == []
        assert tracker.rejected == 3
        engine.maps = None
        assert len(tracker.update(GOOD, 5.0)) == 1


def test_keep_all_has_one_face_for_each_box_or_says_why_not():
    noise, broken = TinyEngine(NO_FACES["noise"]), TinyEngine(NO_FACES["nan"])
    faces = FacePipeline(noise, passes=1).process(GOOD, [BOX, BOX, BOX], keep_all=True)
    assert [face.id for face in faces] == [0, 1, 2]
    assert all(face.presence < 0.5 for face in faces)
    with pytest.raises(BadInput, match=r"tiny: under crop 0 .* map is not finite"):
        FacePipeline(broken).process(GOOD, [BOX], keep_all=True)


@pytest.mark.parametrize(
    "maps", [None, np.zeros((1, 2, 32, 32), "f"), np.zeros((5, 3, 32, 16), "f"), "maps"]
)
def test_an_engine_that_returns_other_things_is_one_line(maps):
    engine = TinyEngine()
    engine._infer = lambda images: maps  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"^tiny: "):
        FacePipeline(engine).process(GOOD, [BOX])


@pytest.mark.parametrize("value", [None, 3, "x", [], np.zeros(3), torch.zeros(1, 3, 32, 32)])
def test_an_engine_takes_arrays_alone(value):
    with pytest.raises(BadInput, match=r"^tiny: "):
        TinyEngine().infer(value)


def test_a_closed_engine_is_one_line():
    engine = load_engine("edge")
    engine.close()
    with pytest.raises(BadInput, match="edge: the engine is closed: load it again"):
        FacePipeline(engine).process(GOOD, [BOX])


class OddDetector:
    def __init__(self, result):
        self.result = result

    def detect(self, frame, max_faces=1):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


ODD = [RuntimeError("no\ncamera"), KeyError("x"), None, 3, "boxes", np.zeros((1, 4)), [None],
       [(1, 2, 3, 4)], {BOX}, iter([BOX])]  # fmt: skip


@pytest.mark.parametrize("result", ODD, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("background", [True, False])
def test_a_detector_that_fails_is_one_line_and_the_tracker_goes_on(result, background):
    detector = OddDetector(result)
    with pytest.raises(PosganError, match=r"^OddDetector (failed: .*Error|did not return a list)"):
        detected(detector, GOOD, 1)
    with FaceTracker(TinyEngine(), detector, max_faces=2, background=background) as tracker:
        with pytest.raises(PosganError, match=r"^OddDetector"):
            tracker.update(GOOD, 0.0)
        detector.result = [BOX]
        assert wait_for(tracker, 1.5) == [0]
        detector.result = result
        raised = 0
        for number in range(20_000):  # the detector looks on a thread of its own
            try:
                assert [face.id for face in tracker.update(GOOD, 10 + number)] == [0]
            except PosganError:
                raised += 1
            if number >= 200 and raised > 50:
                break
        assert raised > 50
        detector.result = [BOX]
        assert wait_for(tracker, 100_000) == [0]


def wait_for(tracker, start):
    """Ids once the detector has looked again, on its own thread."""
    for number in range(2000):
        try:
            ids = [face.id for face in tracker.update(GOOD, start + number)]
        except PosganError:  # of a search that was under way
            continue
        if ids:
            return ids
    return []


def test_a_missing_detector_says_what_to_install():
    with pytest.raises(MissingRuntime) as raised, needing("mediapipe", "finding faces", "detect"):
        raise ImportError
    with pytest.raises(PosganError, match="mediapipe is not installed"):
        detected(OddDetector(raised.value), GOOD, 1)


BAD_TIMES: list[Any] = [NAN, INF, "1", True, [1.0], 1e300, 10**400]


def test_ten_thousand_frames_of_which_one_in_ten_is_bad():
    """Bad pictures and times, also while the detector looks, and a network that fails at times."""
    bad = [value for value, _ in NO_PICTURES.values()]
    engine, detector = TinyEngine(), GivenBoxes([BOX])
    good = refused = 0
    with FaceTracker(engine, detector, max_faces=2, redetect=0.05, dense=False) as tracker:
        for number in range(10_000):
            kind, now = number // 10, number / 30
            engine.maps = None
            if number % 10 != 5:
                found = tracker.update(GOOD, now)
                assert [face.id for face in found] == [0]
                assert np.isfinite(found[0].landmarks).all()
                good += 1
            elif kind % 3 == 0:
                with pytest.raises(BadInput):
                    tracker.update(bad[kind // 3 % len(bad)], now)
                refused += 1
            elif kind % 3 == 1:
                with pytest.raises(BadInput):
                    tracker.update(GOOD, BAD_TIMES[kind // 3 % len(BAD_TIMES)])
                refused += 1
            else:
                engine.maps = list(NO_FACES.values())[kind // 3 % len(NO_FACES)]
                with np.errstate(all="ignore"):
                    assert tracker.update(GOOD, now) == []
    assert (good, refused) == (9000, 667)
    assert tracker.rejected == 333
    assert tracker.detections > 100


def test_times_that_jump_put_nothing_off():
    engine, detector = TinyEngine(), GivenBoxes([BOX])
    with FaceTracker(engine, detector, background=False, redetect=1.0) as tracker:
        for now in (0.0, 1e-9, 0.05, 1e12, 0.1, 0.1, 0.0, -5.0, 0.2):
            (face,) = tracker.update(GOOD, now)
            assert face.id == 0
            assert face.box.center == pytest.approx((32, 24), abs=4)
        detector.boxes = []
        engine.maps = NO_FACES["noise"]
        for now in (1e12, 1e12 + 1, 1e12 + 2, 1e12 + 3):
            assert tracker.update(GOOD, now) == []
        engine.maps, detector.boxes = None, [BOX]
        assert [face.id for face in tracker.update(GOOD, 1.0)] == [1]
