"""A blink: the source that makes one, and what the filters leave of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posgan_edge import FaceTracker, blendshapes, openness
from posgan_edge.errors import UsageError
from posgan_edge.faces.detector import GivenBoxes
from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.geometry.values import FaceBox
from posgan_edge.live.sources import open_source
from tests.helpers.there import there

STILL = "synthetic:?width=640&height=640&sway=0&roll=0&zoom=0&noise=6&jpeg=70"
#: Where the portrait's face lies in those frames: x, y, width, height.
BOX = FaceBox(244, 214, 166, 154)
ONE_SETTING = replace(Smoothing(), eyes=(0, 0), mouth=(0, 0))


def faces_of(uri, **options):
    options = {"smooth": False, "background": False, **options}
    with FaceTracker("edge", GivenBoxes([BOX]), **options) as tracker, open_source(uri) as source:
        return [tracker.update(frame)[0] for frame in source]


def eyes(landmarks):
    found = openness(landmarks)
    return (found["right_eye"] + found["left_eye"]) / 2


def surface(face):
    layout = face.dense_map.layout
    return face.crop.to_frame(layout.landmarks(face.dense_map.xyz))


def depth(signal):
    """How far the two last blinks, a second apart, fall below what is usual."""
    signal = np.array(signal)
    return np.median(signal) - np.mean([signal[30:60].min(), signal[60:90].min()])


@pytest.fixture(scope="module")
def blinking():
    return faces_of(f"{STILL}&seconds=3&blink=1&blink_takes=0.2")


def test_a_blink_stays_visible(blinking):
    smoother = FaceSmoother()
    shown = [smoother(face, n / 30) for n, face in enumerate(blinking)]
    raw = [eyes(face.landmarks) for face in blinking]
    assert depth(raw) > 0.05
    assert depth([eyes(face.landmarks) for face in shown]) > 0.8 * depth(raw)
    whole = depth([eyes(surface(face)) for face in blinking])
    assert depth([eyes(surface(face)) for face in shown]) > 0.8 * whole
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        tracks = ExpressionTrack(), ExpressionTrack(smooth=False)
        seen = [depth([-there(blendshapes(f, track))[name] for f in blinking]) for track in tracks]
        assert seen[1] > 0.1
        assert seen[0] > 0.8 * seen[1]
    # Without settings of its own for the eyes most of it is smoothed away.
    smoother = FaceSmoother(ONE_SETTING)
    flat = [smoother(face, n / 30) for n, face in enumerate(blinking)]
    assert depth([eyes(face.landmarks) for face in flat]) < 0.6 * depth(raw)


def test_the_tracker_shows_the_blink(blinking):
    uri = f"{STILL}&seconds=3&blink=1&blink_takes=0.2"
    shown = faces_of(uri, smooth=True, expressions=True)
    raw = depth([eyes(face.landmarks) for face in blinking])
    assert depth([eyes(face.landmarks) for face in shown]) > 0.8 * raw
    assert depth([-face.blendshapes["eyeBlinkLeft"] for face in shown]) > 0.1


def test_a_still_face_stays_as_steady():
    faces = faces_of(f"{STILL}&seconds=3", dense=False)
    jitter = []
    for settings in (ONE_SETTING, Smoothing()):
        smoother = FaceSmoother(settings, dense=False)
        shown = [smoother(face, n / 30).landmarks for n, face in enumerate(faces)]
        points = np.array(shown)[30:]
        jitter.append(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean()))
    assert jitter[1] < 1.1 * jitter[0]


def test_a_cut_off_of_nothing_holds_a_face_where_it_was(blinking):
    frozen = Smoothing(**{name: (0.0, 0.0) for name in vars(Smoothing())})
    smoother = FaceSmoother(frozen)
    shown = [smoother(face, n / 30) for n, face in enumerate(blinking[:10])]
    np.testing.assert_allclose(shown[-1].landmarks, blinking[0].landmarks, atol=1e-3)


@pytest.mark.parametrize(
    ("keys", "closures"),
    [
        ("blink=1&blink_takes=0.33", {0.0: 0, 0.335: 0, 0.435: 1, 0.51: 1, 0.59: 0.5, 1.5: 1}),
        ("blink=1&blink_takes=0.066", {0.467: 0, 0.487: 1, 0.501: 1, 0.5345: 0}),
        ("blink=0", {0.0: 0, 0.5: 0}),
    ],
)  # fmt: skip
def test_how_far_the_lids_are_closed(keys, closures):
    source: Any = open_source(f"synthetic:?{keys}")
    found = {now: source.closure(now) for now in closures}
    assert found == pytest.approx(closures, abs=0.01)


def test_only_the_eyes_move_in_a_blink():
    clean = STILL.replace("noise=6&jpeg=70", "noise=0&jpeg=0")
    with open_source(f"{clean}&seconds=1&blink=1&fps=10") as source:
        frames = [frame.image.astype(int) for frame in source]
    assert (frames[0] == frames[9]).all()
    rows, columns = np.nonzero(np.abs(frames[5] - frames[0]).max(-1) > 8)
    assert len(rows) > 200
    middle = BOX.y + BOX.height / 2
    assert BOX.y < rows.min() < rows.max() < middle
    assert BOX.x < columns.min() < columns.max() < BOX.x + BOX.width


@pytest.mark.parametrize(
    ("keys", "message"),
    [("blink=0.2", "a blink takes 0.33 seconds"), ("blink=0.2&blink_takes=0.3", "takes 0.3 sec"),
     ("blink=1&blink_takes=0", "blink_takes must be from 0.01 to 60"),
     ("blink=yes", "'yes' is not a number")],
)  # fmt: skip
def test_blinks_that_cannot_be(keys, message):
    with pytest.raises(UsageError, match=message):
        open_source(f"synthetic:?{keys}")
