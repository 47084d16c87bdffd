"""Tracks, their ids, and the filters, on scripted faces and on the portrait."""

import threading
import time
from dataclasses import replace
from itertools import permutations
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posgan_edge import (
    BadInput,
    Crop,
    FaceBox,
    FacePipeline,
    FaceTracker,
    Frame,
    PosganError,
    load_engine,
    load_layout,
    track_together,
)
from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.faces.assignment import assign
from posgan_edge.faces.one_euro import OneEuro
from posgan_edge.faces.smoothing import FaceSmoother
from posgan_edge.faces.tracker import MOST_MISSES, NO_FACE
from posgan_edge.faces.values import Face
from posgan_edge.geometry.pose import fit_pose, rotation_from_angles
from posgan_edge.geometry.values import PositionMap
from posgan_edge.images import read_image
from posgan_edge.live.capture import Capture
from posgan_edge.live.sources import open_source
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

LAYOUT = load_layout("ict")


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_assignment_is_the_cheapest(rows, columns, seed):
    cost = np.random.default_rng(seed).integers(0, 9, (rows, columns)).astype(float)
    found = assign(cost)
    assert len(found) == min(rows, columns)
    assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
    wide = cost if rows <= columns else cost.T
    best = min(
        sum(wide[i, j] for i, j in enumerate(order))
        for order in permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert sum(cost[i, j] for i, j in found) == best


def test_one_euro_rests_and_follows():
    still = OneEuro(1.0, 0.0)
    rng = np.random.default_rng(0)
    noise = np.array([still(rng.normal(0, 1, 3), 1 / 30) for _ in range(3000)])
    blend = 1 / (1 + 30 / (2 * np.pi))
    assert noise[100:].std() == pytest.approx(np.sqrt(blend / (2 - blend)), rel=0.1)
    lags = []
    for per_speed in (0.0, 1.0):
        ramp = OneEuro(1.0, per_speed)
        for n in range(200):
            value = ramp(np.array([n / 30 * 10.0]), 1 / 30)
        lags.append(199 / 30 - float(value[0]) / 10)
    assert lags[0] == pytest.approx(1 / (2 * np.pi), abs=0.01)
    assert lags[1] < 0.03


class ScriptedEngine(Engine):
    """Answers the mean face, placed where the picture says: a frame is a grey level per face."""

    info = EngineInfo("scripted", "test", "ict", 128, 128)

    def __init__(self):
        self.calls = 0

    def _infer(self, images):
        self.calls += 1
        return np.stack([self._map(image) for image in images])

    def _map(self, image):
        red, _, blue = image.mean((1, 2)) * 255
        if red < 20:  # nothing there: noise, which no face fits
            return np.random.default_rng(int(blue)).normal(0.5, 0.4, (3, 128, 128)).astype("f")
        rows, columns = np.nonzero(image[0] > 0.3)
        centre = (np.array([columns.mean(), rows.mean()]) + 0.5) / 128
        side = np.sqrt(len(rows)) / 128
        return mean_map(np.eye(3), centre, side)


_V, _U = np.meshgrid(*(((np.arange(128) + 0.5) / 128,) * 2), indexing="ij")
_FLAT = np.stack([_U.ravel(), _V.ravel()], 1)
_NEAREST = np.argmin(((_FLAT[:, None] - LAYOUT.mean_uv[None]) ** 2).sum(-1), 1)
_UPRIGHT = LAYOUT.landmarks((LAYOUT.mean_points * (1, -1, 1))[_NEAREST].T.reshape(3, 128, 128))
_SIDE = np.ptp(_UPRIGHT[:, :2], axis=0).max()
_MIDDLE = (_UPRIGHT[:, :2].min(0) + _UPRIGHT[:, :2].max(0)) / 2


def mean_map(rotation, centre, side):
    """A map that holds the mean face, turned; upright, its landmarks' box is as asked for."""
    points = ((LAYOUT.mean_points @ rotation.T) * (1, -1, 1) - (*_MIDDLE, 0)) * side / _SIDE
    points[:, :2] += centre
    return points[_NEAREST].T.reshape(3, 128, 128).astype(np.float32)


class ScriptedDetector:
    def __init__(self):
        self.boxes, self.calls = [], 0

    def detect(self, frame, max_faces=1):
        self.calls += 1
        return self.boxes[:max_faces]


def scene(*faces, size=(240, 640)):
    """A picture with a bright square for each face, and the boxes of a detector."""
    image, boxes = np.zeros((*size, 3), np.uint8), []
    for x, y in faces:
        cv2.rectangle(image, (x - 30, y - 30), (x + 29, y + 29), (200, 200, 200), -1)
        boxes.append(FaceBox(x - 30, y - 30, 60, 60, 0.9))
    return image, boxes


def tracker(**options):
    detector = ScriptedDetector()
    options = {"background": False, "smooth": False, **options}
    return FaceTracker(ScriptedEngine(), detector, **options), detector


def test_ids_stay_while_faces_move_and_pass_new_ones():
    follower, detector = tracker(max_faces=3, redetect=0.5)
    for n in range(60):
        faces = [(100 + 3 * n, 170), (500 - 3 * n, 50)] + ([(580, 190)] if n > 20 else [])
        image, detector.boxes = scene(*faces)
        found = follower.update(image, n / 30)
        assert [f.id for f in found][:2] == [0, 1]
        for face, (x, y) in zip(found, faces, strict=False):
            assert face.box.center == pytest.approx((x, y), abs=9)
    assert [f.id for f in found] == [0, 1, 2]
    assert detector.calls <= 4


def test_the_detector_rests_while_every_face_is_followed():
    follower, detector = tracker(redetect=0.1)
    for n in range(100):
        image, detector.boxes = scene((100 + n, 120))
        follower.update(image, n / 30)
    assert detector.calls == 1
    assert follower.pipeline.engine.calls == 101  # two passes on the first frame


def test_a_lost_face_ends_its_track_and_comes_back_as_another():
    follower, detector = tracker(redetect=0.1)
    seen = []
    for n in range(60):
        image, detector.boxes = scene((300, 120)) if not 20 <= n < 40 else scene()
        seen.append([f.id for f in follower.update(image, n / 30)])
        if n == 20 + MOST_MISSES:
            assert follower.tracks == []
    assert seen[:20] == [[0]] * 20
    assert seen[20:40] == [[]] * 20
    assert seen[-10:] == [[1]] * 10


def test_a_short_gap_keeps_the_id():
    follower, detector = tracker()
    image, detector.boxes = scene((300, 120))
    for n in range(30):
        faces = follower.update(scene()[0] if n in (10, 11) else image, n / 30)
        assert [f.id for f in faces] == ([] if n in (10, 11) else [0])


def test_two_tracks_on_one_face_become_one():
    follower, detector = tracker(max_faces=2, redetect=0.1)
    for n in range(60):
        left = min(100 + 8 * n, 390)
        image, detector.boxes = scene((left, 120), (400, 120))
        found = follower.update(image, n / 30)
    assert len(found) == 1


def test_false_detections_begin_no_track():
    follower, detector = tracker()
    detector.boxes = [FaceBox(200, 60, 60, 60)]
    for n in range(10):
        assert follower.update(scene()[0], n / 30) == []
    assert follower.tracks == []


def test_a_detector_on_its_own_thread_finds_the_same():
    follower, detector = tracker(background=True, max_faces=2, redetect=0.1)
    with follower:
        ids = set()
        for n in range(200):
            image, detector.boxes = scene((100, 120), *([(400, 120)] if n > 10 else []))
            ids |= {f.id for f in follower.update(image, n / 30)}
            if ids == {0, 1}:
                break
    assert ids == {0, 1}


class SlowDetector(ScriptedDetector):
    """Takes longer at each call, and tells which thread it ran on."""

    def __init__(self, boxes, seconds):
        super().__init__()
        self.boxes, self.seconds, self.threads = boxes, seconds, set()

    def detect(self, frame, max_faces=1):
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds * self.calls)
        return super().detect(frame, max_faces)


def faces_of(frames, seconds, **options):
    """Landmarks of each frame by a default tracker, and the threads of its detector."""
    detector = SlowDetector([FaceBox(70, 90, 60, 60, 0.9), FaceBox(370, 90, 60, 60, 0.9)], seconds)
    with FaceTracker(ScriptedEngine(), detector, max_faces=2, redetect=0.1, **options) as follower:
        found = [follower.update(*frame) for frame in frames]
    return [{f.id: f.landmarks.tobytes() for f in faces} for faces in found], detector.threads


def shots(number):
    """40 pictures with a face that moves, and from ``number`` on a second one that stays."""
    return [
        (scene((100 + n, 120), *([(400, 120)] if n >= number else []))[0], n / 30)
        for n in range(40)
    ]


@pytest.mark.parametrize("kind", ["pictures with time stamps", "a video file", "the live loop"])
def test_two_runs_of_a_file_are_equal_to_the_last_bit(tmp_path, kind):
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 240))
    for image, _ in shots(10):
        writer.write(image)
    writer.release()
    runs = []
    for seconds in (0.0, 0.01):
        if kind == "pictures with time stamps":
            found, threads = faces_of(shots(10), seconds)
        elif kind == "a video file":
            with open_source(path) as source:
                found, threads = faces_of(((frame,) for frame in source), seconds)
        else:
            with Capture(open_source(path)) as capture:
                found, threads = faces_of(((frame,) for frame in capture), seconds)
        assert threads == {"MainThread"}
        assert len(found) == 40
        assert set(found[-1]) == {0, 1}
        runs.append(found)
    assert runs[0] == runs[1]


#: Only one of two faces is there, so the other is looked for all the time.
ONE_OF_TWO = shots(99)


@pytest.mark.parametrize(
    ("frames", "options", "beside"),
    [
        ([(image,) for image, _ in ONE_OF_TWO], {"redetect": 0.0}, True),
        ([(Frame(image, 0, at, live=True),) for image, at in ONE_OF_TWO], {}, True),
        ([(Frame(image, 0, at),) for image, at in ONE_OF_TWO], {}, False),
        (ONE_OF_TWO, {}, False),
        (ONE_OF_TWO, {"background": True}, True),
        ([(Frame(image, 0, at, live=True),) for image, at in ONE_OF_TWO], {"background": False},
         False),
    ],
)  # fmt: skip
def test_the_detector_runs_beside_on_live_frames(frames, options, beside):
    detector = SlowDetector([FaceBox(70, 90, 60, 60, 0.9)], 0.0)
    with FaceTracker(ScriptedEngine(), detector, max_faces=2, **{"redetect": 0.1, **options}) as t:
        for frame in frames:
            t.update(*frame)
    assert detector.calls > 3
    names = {name.split("_")[0] for name in detector.threads}
    assert names == ({"MainThread", "detector"} if beside else {"MainThread"})


def test_a_capture_says_which_frames_are_live():
    for drop, live in ((False, False), (True, True)):
        with Capture(open_source("synthetic:?width=64&height=64&seconds=0.1"), drop) as capture:
            assert {frame.live for frame in capture} == {live}


def several(count, engine, *detectors):
    return [
        FaceTracker(engine, detector, background=False, max_faces=2, redetect=0.2)
        for detector in detectors[:count]
    ]


def test_trackers_together_find_what_each_finds_alone():
    """Each camera has its own faces, ids and filters; the engine is called once a frame."""
    starts = [((100, 120),), ((300, 60), (500, 180)), ()]
    alone: list[Any] = []
    for faces in starts:
        follower, detector = tracker(smooth=True, max_faces=2, redetect=0.2)
        alone.append([])
        for n in range(20):
            image, detector.boxes = scene(*((x + 2 * n, y) for x, y in faces))
            alone[-1].append([(f.id, f.landmarks) for f in follower.update(image, n / 30)])
    engine, detectors = ScriptedEngine(), [ScriptedDetector() for _ in starts]
    trackers = several(3, engine, *detectors)
    for n in range(20):
        frames = []
        for faces, detector in zip(starts, detectors, strict=True):
            image, detector.boxes = scene(*((x + 2 * n, y) for x, y in faces))
            frames.append(Frame(image, n, n / 30))
        before = engine.calls
        found: list[Any] = track_together(trackers, frames)
        assert engine.calls - before == (2 if n == 0 else 1)  # two passes on the first frame
        for camera, shown in enumerate(found):
            expected = alone[camera][n]
            assert [face.id for face in shown] == [id for id, _ in expected]
            for face, (_, landmarks) in zip(shown, expected, strict=True):
                assert np.abs(face.landmarks - landmarks).max() < 1e-3
            assert set(trackers[camera].timings_ms) == (
                {"crop", "network", "landmarks", "total"} if expected else set()
            )
    assert [t.rejected for t in trackers] == [0, 0, 0]


class BrokenDetector(ScriptedDetector):
    def detect(self, frame, max_faces=1):
        raise ValueError("no model")


def test_an_error_of_one_tracker_leaves_the_others():
    image, boxes = scene((300, 120))
    good, bad = ScriptedDetector(), BrokenDetector()
    good.boxes = boxes
    trackers = several(3, ScriptedEngine(), good, bad, good)
    trackers[2].close()
    found: list[Any] = track_together(trackers, [Frame(image, 0, 0.1)] * 3)
    first, second, third = found
    assert [face.id for face in first] == [0]
    assert str(second) == "BrokenDetector failed: ValueError: no model"
    assert str(third) == "the tracker is closed: make another"
    assert isinstance(second, PosganError)


def test_an_engine_that_fails_is_told_to_each_and_others_go_on():
    class Broken(ScriptedEngine):
        def _infer(self, images):
            raise BadInput("broken")

    image, boxes = scene((300, 120))
    detectors = [ScriptedDetector() for _ in range(3)]
    for detector in detectors:
        detector.boxes = boxes
    trackers = [*several(2, Broken(), *detectors), *several(1, ScriptedEngine(), detectors[2])]
    found: list[Any] = track_together(trackers, [Frame(image, 0, 0.1)] * 3)
    first, second, third = found
    assert str(first) == str(second) == "broken"
    assert [face.id for face in third] == [0]


def test_what_trackers_together_refuse():
    (follower,) = several(1, ScriptedEngine(), ScriptedDetector())
    image, _ = scene()
    with pytest.raises(BadInput, match="2 frames for 1 trackers"):
        track_together([follower], [image, image])
    with pytest.raises(BadInput, match="a tracker is given twice"):
        track_together([follower, follower], [image, image])


def turned_face(yaw, x=320.0, noise=0.0, rng=None, side=200.0):
    """A face of the mean shape with exact landmarks, turned by yaw in degrees."""
    crop = Crop(x, 240, side)
    xyz = mean_map(rotation_from_angles(0, yaw, 0), (0.5, 0.5), 0.7)
    if noise:
        xyz = xyz + rng.normal(0, noise / side, (3, 1, 1)).astype("f")
        xyz = xyz + rng.normal(0, noise / side, xyz.shape).astype("f")
    landmarks = crop.to_frame(LAYOUT.landmarks(xyz))
    return Face(
        FaceBox.around(landmarks), crop, PositionMap(xyz, LAYOUT), landmarks,
        np.ones(68, np.float32), fit_pose(xyz, LAYOUT, crop),
    )  # fmt: skip


def test_a_still_face_is_three_times_steadier():
    rng = np.random.default_rng(0)
    smoother, given, shown = FaceSmoother(), [], []
    for n in range(150):
        # Far from the frame's corner, and of a size that wavers: neither may leak into the place.
        face = turned_face(20, 1100.0, noise=1.0, rng=rng, side=200 * (1 + rng.normal(0, 0.002)))
        given.append(face.landmarks)
        shown.append(smoother(face, n / 30))
    raw, steady = np.array(given[30:]), np.array([f.landmarks for f in shown[30:]])
    maps = np.array([f.crop.to_frame(LAYOUT.landmarks(f.dense_map.xyz)) for f in shown[30:]])
    rms = [np.sqrt(np.square(a - a.mean(0)).sum(-1).mean()) for a in (raw, steady, maps)]
    assert rms[1] < rms[0] / 3
    assert rms[2] < rms[0] / 3
    # The map is filtered as the landmarks are, so the two stay one face.
    assert np.abs(maps - steady).max() < 0.5


@pytest.mark.parametrize("rate", [15, 30, 60])
def test_lag_of_a_quick_turn(rate):
    smoother = FaceSmoother()
    yaws = []
    for n in range(rate):
        truth = -45 + 90 * n / rate
        yaws.append((truth, smoother(turned_face(truth), n / rate).pose.yaw))
    lag = (yaws[-1][0] - yaws[-1][1]) / 90
    assert 0 <= lag < 0.05


def test_filters_do_not_depend_on_the_size_of_the_face():
    shown = []
    for side in (100.0, 400.0):
        smoother = FaceSmoother()
        for n in range(20):
            face = turned_face(3 * n, x=side * (1 + n / 50), side=side)
            filtered = smoother(face, n / 30)
        shown.append((filtered.landmarks - face.landmarks) / side)
    assert np.abs(shown[0] - shown[1]).max() < 1e-3


def test_the_filter_keeps_a_first_face_as_it_is():
    face = turned_face(30)
    shown = FaceSmoother()(face, 0.0)
    assert np.abs(shown.landmarks - face.landmarks).max() < 1e-3
    assert np.abs(shown.dense_map.xyz - face.dense_map.xyz).max() < 1e-5
    assert shown.pose.yaw == pytest.approx(face.pose.yaw)
    plain = replace(face, position_map=None)
    assert FaceSmoother()(plain, 0.0).position_map is None


def test_the_portrait_is_a_face_and_its_background_is_none():
    image, engine = read_image(PORTRAIT), load_engine("edge")
    pipeline = FacePipeline(engine)
    crops = [Crop.from_box(FaceBox(*PORTRAIT_BOX)), Crop(400, 400, 120), Crop(90, 420, 150)]
    face, *none = pipeline.at_crops(Frame(image), crops)
    assert face.pose.residual < NO_FACE
    assert all(other.pose.residual > NO_FACE for other in none)


@pytest.mark.slow
def test_a_moving_portrait_is_followed():
    pytest.importorskip("mediapipe")
    portrait = read_image(PORTRAIT)
    with FaceTracker(background=False, smooth=False) as follower:
        first = None
        for n in range(90):
            shift, angle = 60 * np.sin(n / 10), 15 * np.sin(n / 15)
            matrix: Any = cv2.getRotationMatrix2D((227, 133), angle, 1.0)
            matrix[:, 2] += (shift, 0.5 * shift)
            image = cv2.warpAffine(portrait, matrix, portrait.shape[1::-1])
            (face,) = follower.update(image, n / 30)
            assert face.id == 0
            points = face.landmarks[:, :2]
            upright = (points - matrix[:, 2]) @ matrix[:, :2]
            first = upright if first is None else first
            assert np.linalg.norm(upright - first, axis=1).mean() < 6
    assert follower.detections == 1
