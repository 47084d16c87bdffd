"""Finding many and small faces, and pictures of odd sizes; all with MediaPipe."""

import math
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from posgan_edge import Crop, FaceBox, FacePipeline, load_engine
from posgan_edge.errors import BadInput
from posgan_edge.faces.presence import distinct, same_face, same_person
from posgan_edge.faces.tiles import starts
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, real_data

pytest.importorskip("mediapipe", reason="pip install '.[detect]'")

from posgan_edge.faces.detector import TRUSTED_SCORE, MediaPipeDetector


@pytest.fixture(scope="module")
def detector():
    with MediaPipeDetector() as made:
        yield made


@pytest.fixture(scope="module")
def pipeline(detector):
    with load_engine("edge") as engine:
        yield FacePipeline(engine, detector)


@pytest.mark.parametrize(
    ("length", "tile", "expected"),
    [(100, 100, [0]), (60, 100, [0]), (101, 100, [0, 1]), (200, 100, [0, 50, 100]),
     (230, 100, [0, 43, 86, 130])],
)  # fmt: skip
def test_tiles_cover_the_length_and_overlap(length, tile, expected):
    assert starts(length, tile) == expected


def portrait_cell(side):
    x, y, w, h = PORTRAIT_BOX
    reach = 75
    left, top = round(x + w / 2) - reach, round(y + h / 2) - reach
    part = read_image(PORTRAIT)[top : top + 2 * reach, left : left + 2 * reach]
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)


def photo_cells(count, side):
    """Clear faces of photos, each about two thirds of its cell."""
    from scipy.io import loadmat

    cells = []
    for path in sorted(real_data("aflw2000-3d").glob("*.jpg")):
        labels = loadmat(path.with_suffix(".mat"))
        points = labels["pt3d_68"][:2].T
        low, high = points.min(0), points.max(0)
        size = round(1.5 * (high - low).max())
        left, top = np.round((low + high - size) / 2).astype(int)
        image = read_image(path)
        part = image[max(0, top) : top + size, max(0, left) : left + size]
        turned = np.abs(np.degrees(labels["Pose_Para"][0, :3])).max()
        if turned <= 25 and size >= 110 and part.shape[:2] == (size, size):
            cells.append(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA))
        if len(cells) == count:
            break
    return cells


def found_in_grid(faces, rows, columns, side):
    """How many cells have a face, and how many faces are second ones or lie nowhere."""
    cells = set()
    for face in faces:
        x, y = face.box.center
        place = (int(y // side), int(x // side))
        middle = ((place[1] + 0.5) * side, (place[0] + 0.5) * side)
        if math.dist((x, y), middle) < 0.25 * side and 0.35 * side < face.box.width < 0.95 * side:
            cells.add(place)
    assert all(row < rows and column < columns for row, column in cells)
    return len(cells), len(faces) - len(cells)


def grid(cells, columns):
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    return np.vstack(rows)


@pytest.mark.parametrize(("rows", "columns", "side"), [(5, 8, 160), (4, 6, 225)])
def test_every_portrait_in_a_grid_is_found_once(pipeline, rows, columns, side):
    image = grid([portrait_cell(side)] * (rows * columns), columns)
    faces = pipeline.process(image, max_faces=100)
    assert found_in_grid(faces, rows, columns, side) == (rows * columns, 0)
    assert [face.id for face in faces] == list(range(rows * columns))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "columns", "side", "least"), [(5, 8, 160, 38), (4, 6, 225, 24), (10, 16, 80, 150)]
)
def test_clear_faces_in_a_grid_are_found_once(pipeline, rows, columns, side, least):
    pytest.importorskip("scipy")
    image = grid(photo_cells(rows * columns, side), columns)
    cells, others = found_in_grid(pipeline.process(image, max_faces=200), rows, columns, side)
    assert cells >= least
    assert others == 0


@pytest.mark.slow
def test_nobody_is_found_twice_on_photos(pipeline):
    """Photos of one person, on which a second face was found before: an ear, a forehead."""
    folder, names = (
        real_data("aflw2000-3d"),
        (32, 74, 176, 180, 216, 227, 400, 437, 606, 1071, 1437),
    )
    for name in names:
        found = pipeline.process(read_image(folder / f"image{name:05}.jpg"), max_faces=50)
        assert len(found) == 1, name


def test_more_faces_leave_the_first_as_it_is(detector):
    image = read_image(PORTRAIT)
    assert detector.detect(image, 20)[:1] == detector.detect(image, 1)


def test_of_two_readings_of_one_person_the_surer_stays(pipeline):
    image, box = read_image(PORTRAIT), FaceBox(*PORTRAIT_BOX)
    near = [replace(box, x=box.x + 4, score=0.6), replace(box, score=0.9),
            replace(box, width=box.width * 0.8, score=0.5)]  # fmt: skip
    both = pipeline.process(image, near, keep_all=True)
    assert len(both) == 3
    assert same_face(both[0], both[1])
    (kept,) = pipeline.process(image, near)
    assert kept.box.score == 0.9
    face = both[1]
    size = max(face.box.width, face.box.height)
    for shift, one in ((0.1, True), (0.5, True), (0.6, True), (0.8, False), (1.0, False)):
        points = face.landmarks + np.array([shift * size, 0, 0], np.float32)
        other = replace(face, landmarks=points, box=FaceBox.around(points, 0.8))
        assert same_person(face, other) == one
        assert distinct([other, face]) == ([face] if one else [other, face])


def test_white_noise_and_empty_boxes_are_no_faces(pipeline):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    before = pipeline.rejected
    boxes = [FaceBox(100, 100, 200, 200), FaceBox(300, 50, 80, 80), FaceBox(-900, -900, 60, 60)]
    for image in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert pipeline.process(image, boxes) == []
        assert pipeline.process(image, max_faces=5) == []
    assert pipeline.rejected >= before + 9
    (face,) = pipeline.process(read_image(PORTRAIT), max_faces=5)
    assert face.presence > 0.5
    x, y, w, h = PORTRAIT_BOX
    away = FacePipeline(pipeline.engine).process(read_image(PORTRAIT), [FaceBox(x - 900, y, w, h)])
    assert away == []


SIZES = [(10, 20_000), (20_000, 10), (30, 30_000), (30_000, 30), (700, 20_000), (8, 256), (8, 300),
         (1, 1), (7, 7)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pictures_of_odd_sizes_do_not_end_the_process(height, width):
    code = (
        "import numpy as np\n"
        "from posgan_edge.faces.detector import MediaPipeDetector\n"
        f"image = np.random.default_rng(0).integers(0, 256, ({height}, {width}, 3), np.uint8)\n"
        "for thorough in (False, True):\n"
        "    with MediaPipeDetector(thorough=thorough) as detector:\n"
        "        for most in (1, 9):\n"
        "            assert isinstance(detector.detect(image, most), list)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_face_in_a_large_picture_without_room_round_it(detector):
    """Found in the padded copy, which is smaller than the picture."""
    side = 5000
    image = cv2.resize(portrait_cell(150)[25:125, 25:125], (side, side))
    boxes = detector.detect(image)
    assert all(abs(box.center[0] - side / 2) < side / 3 for box in boxes)
    assert Crop.from_box(boxes[0]).side < 2.5 * side


@pytest.mark.parametrize(
    ("code", "degrees"),
    [
        (None, 0),
        (cv2.ROTATE_90_COUNTERCLOCKWISE, 90),
        (cv2.ROTATE_180, 180),
        (cv2.ROTATE_90_CLOCKWISE, 270),
    ],
)
def test_a_turned_search_returns_boxes_of_the_frame_as_given(detector, code, degrees):
    portrait = read_image(PORTRAIT)
    frame = portrait if code is None else cv2.rotate(portrait, code)
    upright = max(detector.detect_turned(portrait, [0]), key=lambda box: box.score)
    (box,) = [b for b in detector.detect_turned(frame, [degrees]) if b.score > TRUSTED_SCORE]
    height, width = portrait.shape[:2]
    x, y = upright.center
    places = {0: (x, y), 90: (y, width - x), 180: (width - x, height - y), 270: (height - y, x)}
    assert box.center == pytest.approx(places[degrees], abs=1e-6)
    assert box.score == pytest.approx(upright.score)
    assert abs((box.roll - upright.roll + degrees + 180) % 360 - 180) < 1e-6


def test_a_turned_search_takes_quarter_turns_of_an_open_detector_alone(detector):
    with pytest.raises(BadInput, match="45 is not 0, 90, 180 or 270"):
        detector.detect_turned(read_image(PORTRAIT), [45])
    closed = MediaPipeDetector()
    closed.close()
    with pytest.raises(BadInput, match="the detector is closed"):
        closed.detect_turned(read_image(PORTRAIT), [0])
