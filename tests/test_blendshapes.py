"""Blendshapes: known values come back, whoever the person is."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from posgan_edge import Crop, Face, FaceBox, FaceTracker, PositionMap, blendshapes, load_layout
from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.errors import BadInput
from posgan_edge.faces.detector import GivenBoxes
from posgan_edge.faces.expression import expression_solver, solve_bounded
from posgan_edge.faces.expression_basis import (
    ARKIT_NAMES,
    UNSEEN_NAMES,
    decode_differences,
    encode_differences,
    load_basis,
)
from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.gaps import GAP_LANDMARKS, picture_ratios
from posgan_edge.geometry.landmarks import openness
from posgan_edge.geometry.pose import fit_pose, rotation_from_angles
from posgan_edge.images import read_image
from posgan_edge.live.sources.synthetic import lids_closed
from posgan_edge.training.expressions import arkit_name
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines, real_data, write_constant_model
from tests.helpers.there import there

CROP = Crop(60, 60, 120)
STUDY = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "blendshapes.py"))
SEEN = [name for name in ARKIT_NAMES if name not in UNSEEN_NAMES]


class Person:
    """A random identity whose maps are made of the basis, turned at random, with noise."""

    def __init__(self, rng, noise=0.25):
        basis, self.rng, self.noise = load_basis(), rng, noise
        own = basis.point_rest + np.tensordot(
            rng.normal(size=len(basis.point_identity)), basis.point_identity, 1
        )
        size = basis.neutral.shape[-1]
        centers = (np.arange(size) + 0.5) / size
        grid = np.stack(np.meshgrid(centers, centers), -1)
        inner = LinearNDInterpolator(basis.point_uv, own)(grid)
        outer = NearestNDInterpolator(basis.point_uv, own)(grid)
        self.rest = basis.neutral + np.moveaxis(np.where(np.isnan(inner), outer, inner), -1, 0)
        self.center = self.rest[:, load_layout("ict").mask].mean(axis=1)

    def reading(self, values=None):
        return expression_solver().read(*self.seen(values))

    def seen(self, values=None):
        """(map, crop, pose) of the person with values by name, in a crop of 120 pixels."""
        basis, surface = load_basis(), self.rest
        for name, value in (values or {}).items():
            surface = surface + value * basis.expression[basis.names.index(name)]
        flip = np.diag([1.0, -1.0, 1.0])
        turn = flip @ rotation_from_angles(*self.rng.uniform(-25, 25, 3)) @ flip
        size = self.rng.uniform(0.9, 1.1) / 21
        points = turn @ (surface.reshape(3, -1) - self.center[:, None]) * size + 0.5
        points += self.rng.normal(0, self.noise / CROP.side, points.shape)
        xyz = points.reshape(surface.shape).astype(np.float32)
        return PositionMap(xyz, load_layout("ict")), CROP, fit_pose(xyz, load_layout("ict"), CROP)


def face_of(position_map, crop, pose):
    points = crop.to_frame(load_layout("ict").landmarks(position_map.xyz))
    return Face(FaceBox.around(points), crop, position_map, points, np.ones(68, np.float32), pose)


def drawn(rng, share):
    values = {name: rng.random() for name in SEEN if rng.random() < share}
    # Lips are held together no further than the jaw is open.
    values["mouthClose"] = values.get("mouthClose", 0) * values.get("jawOpen", 0)
    return values


def correlations(truth, found):
    columns = [ARKIT_NAMES.index(name) for name in SEEN]
    wanted = np.array([[values.get(name, 0.0) for name in SEEN] for values in truth])
    got = np.array(found)[:, columns]
    return {n: np.corrcoef(wanted[:, i], got[:, i])[0, 1] for i, n in enumerate(SEEN)}


def test_names():
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52
    assert load_basis().names == ARKIT_NAMES[:-1]
    assert len(UNSEEN_NAMES) == 9
    assert "tongueOut" in UNSEEN_NAMES


@pytest.mark.parametrize(
    ("ict", "arkit"),
    [("eyeBlink_L", "eyeBlinkLeft"), ("browInnerUp_R", "browInnerUp"), ("cheekPuff_L", "cheekPuff"),
     ("jawOpen", "jawOpen"), ("mouthSmile_R", "mouthSmileRight")],
)  # fmt: skip
def test_names_of_ict(ict, arkit):
    assert arkit_name(ict) == arkit


def test_left_is_the_persons_left():
    basis = load_basis()
    for left, right in (("eyeBlinkLeft", "eyeBlinkRight"), ("mouthSmileLeft", "mouthSmileRight")):
        for name, side in ((left, 1), (right, -1)):
            moved = np.linalg.norm(basis.expression[basis.names.index(name)], axis=0)
            assert side * (moved * basis.neutral[0]).sum() > 0, name
    assert basis.expression[basis.names.index("jawLeft"), 0].mean() > 0


def test_differences_are_undone_exactly():
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 9, 9)).astype(np.int16)
    np.testing.assert_array_equal(decode_differences(encode_differences(values)), values)


def test_bounded_least_squares_is_the_best_within_the_bounds():
    rng = np.random.default_rng(1)
    for _ in range(50):
        factor = rng.normal(size=(60, 43))
        gram, right = factor.T @ factor + np.eye(43), factor.T @ rng.normal(0, 8, 60)
        x = solve_bounded(gram, right)
        slope = gram @ x - right
        assert ((x >= 0) & (x <= 1)).all()
        assert np.abs(slope[(x > 0) & (x < 1)]).max(initial=0) < 1e-8
        assert (slope[x == 0] >= -1e-8).all()
        assert (slope[x == 1] <= 1e-8).all()
        np.testing.assert_allclose(solve_bounded(gram, right, rng.random(43).round()), x, atol=1e-8)


def test_known_values_come_back_from_a_person_seen_at_rest_before():
    rng = np.random.default_rng(2)
    truth, found = [], []
    for _ in range(100):
        person, track = Person(rng), ExpressionTrack()
        for _ in range(12):
            track.update(person.reading(), 0.5)
        truth.append(drawn(rng, 0.3))
        found.append(track.update(person.reading(truth[-1]), 10.0))  # past the filter
    r = correlations(truth, found)
    assert min(r.values()) >= 0.95, sorted(r.items(), key=lambda item: item[1])[:8]


def test_a_resting_face_reads_near_nothing_in_the_end():
    rng = np.random.default_rng(3)
    person, track = Person(rng), ExpressionTrack()
    for _ in range(60):
        values = track.update(person.reading(), 0.2)
    assert values.max() < 0.1


def test_an_expression_that_is_held_stays():
    rng = np.random.default_rng(4)
    person, track = Person(rng), ExpressionTrack()
    smile = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}
    for _ in range(30):
        track.update(person.reading(), 0.2)
    for _ in range(50):
        values = track.update(person.reading(smile), 0.2)
    assert abs(values[ARKIT_NAMES.index("mouthSmileLeft")] - 0.8) < 0.2


def test_the_resting_face_can_be_set():
    rng = np.random.default_rng(5)
    person, track = Person(rng), ExpressionTrack()
    with pytest.raises(BadInput, match="no face was seen yet"):
        track.set_neutral()
    open_mouth = {"jawOpen": 0.5}
    before = track.update(person.reading(open_mouth), 0.03)
    assert before[ARKIT_NAMES.index("jawOpen")] > 0.3
    track.set_neutral()
    assert track.update(person.reading(open_mouth), 10.0).max() < 0.15
    more = track.update(person.reading({"jawOpen": 1.0}), 10.0)
    assert 0.35 < more[ARKIT_NAMES.index("jawOpen")] < 0.65


def test_of_a_face():
    person = Person(np.random.default_rng(6))
    face = face_of(*person.seen({"eyeBlinkLeft": 1.0, "jawOpen": 0.6}))
    values = there(blendshapes(face))
    assert face.blendshapes == values
    assert tuple(values) == ARKIT_NAMES
    assert all(0 <= value <= 1 for value in values.values())
    assert {values[name] for name in UNSEEN_NAMES} == {0.0}
    assert values["eyeBlinkLeft"] > 0.6 > 0.3 > values["eyeBlinkRight"]
    assert 0.4 < values["jawOpen"] < 0.8
    with pytest.raises(TypeError):
        values["jawOpen"] = 1.0  # type: ignore[index]


def test_a_jaw_that_stands_forward_is_the_persons_own_in_a_single_picture():
    rng = np.random.default_rng(9)
    for forward in (0.0, 0.5, 1.0):
        values = face_of(*Person(rng).seen({"jawForward": forward})).blendshapes
        assert values["jawForward"] < 0.1
        assert values["jawOpen"] < 0.3
    # Against the same person at rest it is told.
    person, track = Person(rng), ExpressionTrack()
    for _ in range(12):
        track.update(person.reading(), 0.5)
    found = track.update(person.reading({"jawForward": 0.8}), 10.0)
    assert abs(found[ARKIT_NAMES.index("jawForward")] - 0.8) < 0.2


@pytest.mark.parametrize("shut", [0.0, 0.5, 1.0])
def test_lids_of_a_single_picture_do_not_suffer_from_errors_in_depth(shut):
    position_map, crop, pose = Person(np.random.default_rng(10), 0.0).seen(
        {"eyeBlinkLeft": shut, "eyeBlinkRight": shut}
    )
    before = face_of(position_map, crop, pose).blendshapes
    # The upper lids lie 3 % of the crop's side further back than they are.
    wrong = position_map.xyz.copy()
    wrong[2, 26:36, 30:98] -= 0.03
    after = face_of(PositionMap(wrong, position_map.layout), crop, pose).blendshapes
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        assert after[name] == pytest.approx(before[name], abs=0.1)


@pytest.mark.parametrize("degrees", [0.0, 70.0])
def test_gaps_in_the_picture_are_the_openness_of_it(degrees):
    position_map, crop, _ = Person(np.random.default_rng(11)).seen({"jawOpen": 0.7})
    points = crop.to_frame(load_layout("ict").landmarks(position_map.xyz))[:, :2].astype(float)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = points @ np.array([[c, s], [-s, c]])
    found = picture_ratios(turned[list(GAP_LANDMARKS)])
    assert found == pytest.approx(list(openness(points).values()))
    assert picture_ratios(np.zeros((20, 2))).tolist() == [0, 0, 0]


def test_none_where_it_cannot_be_told():
    position_map, crop, pose = Person(np.random.default_rng(7)).seen()
    face = face_of(position_map, crop, pose)
    other = PositionMap(position_map.xyz, load_layout("prnet"))
    assert blendshapes(face_of(other, crop, pose)) is None
    hole = position_map.xyz.copy()
    hole[:, 40:60, 40:60] = np.nan
    assert blendshapes(Face(face.box, crop, PositionMap(hole, load_layout("ict")), face.landmarks,
                            face.facing, pose)) is None  # fmt: skip
    nothing = Face(face.box, crop, None, face.landmarks, face.facing, pose)
    with pytest.raises(BadInput, match="no position map"):
        blendshapes(nothing)


def tracker(**options):
    boxes = GivenBoxes([FaceBox(*PORTRAIT_BOX)])
    return FaceTracker("edge", boxes, background=False, expressions=True, **options)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("smooth", [True, False])
def test_a_tracker_learns_the_person_at_rest(dense, smooth):
    portrait = read_image(PORTRAIT)
    with tracker(dense=dense, smooth=smooth) as followed:
        for number in range(40):
            (face,) = followed.update(portrait, number / 5)
        resting = face.blendshapes
        (face,) = followed.update(lids_closed(portrait, 1.0), 40 / 5)
        (shut,) = followed.update(lids_closed(portrait, 1.0), 41 / 5)
    assert tuple(resting) == ARKIT_NAMES
    # She smiles all the time; eyes, brows and jaw are at rest.
    held = {name for name, value in resting.items() if value > 0.1}
    assert not [name for name in held if name.startswith(("eye", "brow", "jawOpen", "cheek"))]
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        assert shut.blendshapes[name] > 0.2 > 0.05 > resting[name]
    assert shut.blendshapes["jawOpen"] < 0.2
    assert (face.position_map is not None) == dense
    assert face.expression.shape == (52,)


def test_a_tracker_takes_the_face_of_now_for_the_person_at_rest():
    shut = lids_closed(read_image(PORTRAIT), 1.0)
    with tracker() as followed:
        with pytest.raises(BadInput, match="no face is followed now"):
            followed.set_neutral()
        (face,) = followed.update(shut, 0.0)
        assert face.blendshapes["eyeBlinkLeft"] > 0.3
        with pytest.raises(BadInput, match="no face with id 7 is followed now"):
            followed.set_neutral(7)
        followed.set_neutral(face.id)
        for number in range(1, 4):
            (face,) = followed.update(shut, number)
        assert face.blendshapes["eyeBlinkLeft"] < 0.1


def test_a_tracker_without_expressions_has_no_resting_face():
    with FaceTracker("edge", GivenBoxes([FaceBox(*PORTRAIT_BOX)]), background=False) as followed:
        (face,) = followed.update(read_image(PORTRAIT), 0.0)
        assert face.expression is None
        assert there(face.blendshapes)["jawOpen"] < 0.3
        with pytest.raises(BadInput, match="without expressions"):
            followed.set_neutral()


def test_expressions_need_the_layout_that_the_basis_is_of():
    class Other(Engine):
        info = EngineInfo("other", "test", "prnet", 128, 128)

        def _infer(self, images):
            raise AssertionError("never run")

    with pytest.raises(BadInput, match="need position maps of UV layout 'ict', not 'prnet'"):
        FaceTracker(Other(), GivenBoxes([]), expressions=True)


def test_faces_check_their_expression():
    face = face_of(*Person(np.random.default_rng(8)).seen())
    for wrong in (np.zeros(51), np.full(52, np.nan), "smile"):
        with pytest.raises(BadInput, match="expression"):
            replace(face, expression=wrong)


@pytest.mark.parametrize(
    ("file", "yaw"), [("aflw-posmaps/val.npz", 45.0), ("helen-faces/helen-faces.npz", 180.0)]
)
def test_single_pictures_follow_eyes_and_mouth_as_well_as_ratios_do(file, yaw):
    faces, labels = STUDY["faces_of"](real_data(file), 1000)
    near = np.array([abs(face.pose.yaw) <= yaw for face in faces])
    kept = [face for face, keep in zip(faces, near, strict=True) if keep]
    r = STUDY["correlations"](kept, labels[near])
    for part in ("eyes", "mouth"):
        assert r[f"{part}, blendshape"] > r[f"{part}, openness"] - 0.005


def test_blendshapes_of_a_run(run, tmp_path):
    code, _, err = run(
        "run", "synthetic:?seconds=1", "--box", "570,290,190,180", "--blendshapes",
        "--json", tmp_path / "a.jsonl", "--npz", tmp_path / "a.npz", "--no-window",
    )  # fmt: skip
    assert code == 0, err
    faces = [line["faces"][0] for line in read_lines(tmp_path / "a.jsonl")]
    assert all(tuple(face["blendshapes"]) == ARKIT_NAMES for face in faces)
    with np.load(tmp_path / "a.npz") as arrays:
        assert tuple(arrays["blendshape_names"]) == ARKIT_NAMES
        assert arrays["blendshapes"].shape == (len(faces), 52)
        assert ((arrays["blendshapes"] >= 0) & (arrays["blendshapes"] <= 1)).all()
        expected = [list(face["blendshapes"].values()) for face in faces]
        np.testing.assert_allclose(arrays["blendshapes"], expected, atol=6e-4)


def test_blendshapes_of_pictures(run, tmp_path):
    box = ",".join(map(str, PORTRAIT_BOX))
    for wanted in ([], ["--blendshapes"]):
        lines = tmp_path / f"{len(wanted)}.jsonl"
        assert run("run", PORTRAIT, "--box", box, "--json", lines, *wanted, "--no-window")[0] == 0
        (face,) = read_lines(lines)[0]["faces"]
        assert ("blendshapes" in face) == bool(wanted)
    assert face["blendshapes"]["mouthSmileLeft"] > 0.1
    assert face["blendshapes"]["tongueOut"] == 0


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (
            "ict",
            ["--blendshapes"],
            "needs --json, --csv, --npz, --parquet or --serve",
        ),
        ("prnet", ["--blendshapes", "--json", "-"], "blendshapes need a model of UV layout 'ict'"),
    ],
)
def test_blendshapes_that_cannot_be_had(run, tmp_path, model, arguments, message):
    path = write_constant_model(tmp_path / "a.onnx", model, 128)
    for source in (PORTRAIT, "synthetic:?seconds=1"):
        wanted = ["--model", path, "--no-window", "--box", "179,88,97,90", *arguments]
        code, _, err = run("run", source, *wanted)
        assert code == 2
        assert message in err
        assert len(err.strip().splitlines()) == 1
