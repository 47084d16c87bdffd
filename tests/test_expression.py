"""Expression figures against hand-computed values, and the command line on a set that has them."""

import json
import re

import numpy as np
import pytest

from posgan_edge.evaluation.expression import (
    CLOSED,
    PARTS,
    agreement,
    part_nme,
    pearson,
    roc,
    score_points,
)
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.data import (
    real_data,
    write_constant_model,
    write_human_npz,
    write_pts_folder,
)
from tests.helpers.there import there

#: 68 points whose box is 50 x 200 pixels, so sqrt(w x h) is 100.
FACE = np.column_stack([np.linspace(0, 50, 68), np.linspace(0, 200, 68)])
EYE_RIGHT, EYE_LEFT, INNER_LIPS = range(36, 42), range(42, 48), range(60, 68)


def test_the_parts_are_the_points_that_they_are_called():
    assert {name: (min(part), max(part), len(part)) for name, part in PARTS.items()} == {
        "inner": (17, 67, 51), "eyes": (36, 47, 12), "mouth": (48, 67, 20),
        "nose": (27, 35, 9), "brows": (17, 26, 10), "all": (0, 67, 68),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("moved", "shift", "expected"),
    [
        ([], (9, 9), {}),
        (range(68), (3, 4), dict.fromkeys(PARTS, 5.0)),
        (range(17), (0, 2), {"all": 2 * 17 / 68}),
        ([36], (6, 8), {"eyes": 10 / 12, "inner": 10 / 51, "all": 10 / 68}),
        ([48, 67], (0, 1), {"mouth": 2 / 20, "inner": 2 / 51, "all": 2 / 68}),
        ([27], (1, 0), {"nose": 1 / 9, "inner": 1 / 51, "all": 1 / 68}),
        ([17, 26], (-1, 0), {"brows": 2 / 10, "inner": 2 / 51, "all": 2 / 68}),
    ],
)
@pytest.mark.parametrize("depth", [False, True])
def test_nme_of_the_parts(moved, shift, expected, depth):
    measured = FACE.copy()
    measured[list(moved)] += shift
    if depth:
        measured = np.column_stack([measured, np.arange(68.0)])
    assert part_nme(measured, FACE) == pytest.approx(dict.fromkeys(PARTS, 0.0) | expected)


@pytest.mark.parametrize(
    ("a", "b", "r"),
    [
        ([1, 2, 3], [2, 4, 6], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
        ([1, 2, 3], [1, 3, 2], 0.5),
        ([1, 1, 1], [1, 2, 3], None),
        ([1, 2, 3], [4, 4, 4], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_pearson(a, b, r):
    found = pearson(np.array(a, float), np.array(b, float))
    assert found is None if r is None else found == pytest.approx(r)


@pytest.mark.parametrize(
    ("measured", "human", "mae"),
    [([0.1, 0.4], [0.2, 0.2], 0.15), ([0.3], [0.3], 0.0), ([], [], None)],
)
def test_mean_absolute_error(measured, human, mae):
    found = agreement(np.array(measured), np.array(human))
    assert found.n == len(human)
    assert found.mae is None if mae is None else found.mae == pytest.approx(mae)


@pytest.mark.parametrize(
    ("measured", "human", "area", "curve"),
    [
        # All closed eyes have the lower ratios.
        ([0.1, 0.2, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3], 1.0, [(0, 0), (0, 1), (1, 1)]),
        # All have the higher ones.
        ([0.4, 0.3, 0.2, 0.1], [0.0, 0.1, 0.2, 0.3], 0.0, [(0, 0), (1, 0), (1, 1)]),
        # Nothing is told apart.
        ([0.3, 0.3, 0.3, 0.3], [0.0, 0.1, 0.2, 0.3], 0.5, [(0, 0), (1, 1)]),
        # One of the four pairs is the wrong way round.
        ([0.1, 0.3, 0.2, 0.4], [0.0, 0.1, 0.2, 0.3], 0.75,
         [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]),
        # One of the two pairs is a tie.
        ([0.1, 0.1, 0.2], [0.0, 0.3, 0.3], 0.75, [(0, 0), (0.5, 1), (1, 1)]),
        ([0.1, 0.2], [0.3, 0.3], None, []),
        ([0.1, 0.2], [0.1, 0.1], None, []),
    ],
)  # fmt: skip
def test_roc_of_closed_eyes(measured, human, area, curve):
    found = roc(np.array(measured), np.array(human))
    assert found.auc is None if area is None else found.auc == pytest.approx(area)
    assert list(zip(found.false_alarms, found.hits, strict=True)) == curve
    assert (found.closed, found.open) == (
        sum(h < 0.15 for h in human),
        sum(h >= 0.15 for h in human),
    )


def test_thresholds_give_the_points_of_the_curve():
    rng = np.random.default_rng(2)
    human = rng.uniform(0, 0.4, 200)
    measured = np.round(human + rng.normal(0, 0.08, 200), 2)
    found = roc(measured, human)
    shut = human < CLOSED
    assert found.thresholds[0] is None
    for level, alarms, hits in list(
        zip(found.thresholds, found.false_alarms, found.hits, strict=True)
    )[1:]:
        called = measured <= there(level)
        assert hits == pytest.approx(called[shut].mean())
        assert alarms == pytest.approx(called[~shut].mean())
    # The chance that a closed eye lies below an open one, counted out.
    pairs = measured[shut][:, None] - measured[~shut][None]
    assert found.auc == pytest.approx(((pairs < 0) + 0.5 * (pairs == 0)).mean())


def eyes_and_mouth(right, left, mouth):
    """A face (68, 2) whose eyes are 20 wide and inner lips 40, so open."""
    points = FACE.copy()
    for indices, ratio in ((EYE_RIGHT, right), (EYE_LEFT, left)):
        x, half = np.array([0, 5, 15, 20, 15, 5]), ratio * 20 / 2
        points[list(indices)] = np.column_stack([x, [0, -half, -half, 0, half, half]])
    x, half = np.array([0, 10, 20, 30, 40, 30, 20, 10]), mouth * 40 / 2
    y = [0, -half, -half, -half, 0, half, half, half]
    points[list(INNER_LIPS)] = np.column_stack([x, y])
    return points


def test_openness_of_whole_faces():
    ours = {"a": (0.2, 0.3, 0.1), "b": (0.4, 0.3, 0.5), "c": (0.1, 0.2, 0.6)}
    human = {"a": (0.1, 0.3, 0.0), "b": (0.5, 0.3, 0.4), "c": (0.1, 0.1, 0.8)}
    scores = score_points({n: (eyes_and_mouth(*ours[n]), eyes_and_mouth(*human[n])) for n in ours})
    assert scores.ours["b"] == pytest.approx({"right_eye": 0.4, "left_eye": 0.3, "mouth": 0.5})
    assert scores.human["c"] == pytest.approx({"right_eye": 0.1, "left_eye": 0.1, "mouth": 0.8})
    assert scores.eyes.n == 6
    assert scores.eyes.mae == pytest.approx(0.3 / 6)
    pooled = [[r for n in ours for r in by[n][:2]] for by in (ours, human)]
    assert scores.eyes.r == pytest.approx(np.corrcoef(pooled[0], pooled[1])[0, 1])
    assert scores.mouth.n == 3
    assert scores.mouth.mae == pytest.approx(0.4 / 3)
    assert scores.mouth.r == pytest.approx(np.corrcoef([0.1, 0.5, 0.6], [0.0, 0.4, 0.8])[0, 1])
    assert (scores.closed.closed, scores.closed.open) == (3, 3)
    # Closed: 0.2, 0.1, 0.2; open: 0.3, 0.4, 0.3.
    assert scores.closed.auc == 1.0
    assert scores.nme["nose"] == 0
    assert scores.nme["eyes"] == pytest.approx(
        np.mean([r["eyes"] for r in scores.per_face.values()])
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The benchmark's JSON and report of eight faces of one npz."""
    from click.testing import CliRunner

    from posgan_edge.cli import cli

    root = tmp_path_factory.mktemp("human")
    write_human_npz(root / "set.npz", 8)
    result = CliRunner().invoke(
        cli,
        ["benchmark", "--dataset", str(root / "set.npz"), "--rounds", "0", "--landmarks", "aflw",
         "--report", str(root / "out"), "--json", str(root / "a.json")],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return root, result


def test_what_the_document_says(bench):
    root, result = bench
    document = json.loads((root / "a.json").read_text())
    assert document["settings"]["label_sets"] == ["human"]
    assert (document["settings"]["sample"], document["settings"]["seed"]) == (None, None)
    assert list(document["faces"]) == [f"face{i}" for i in range(8)]
    row = document["engines"]["edge"]
    scores = row["expression"]
    assert set(scores["nme"]) == set(PARTS)
    # The points are the generator's own under noise of 0.7 pixels, on a face of about 93.
    assert 0.5 < scores["nme"]["nose"] < 2
    assert scores["nme"]["all"] == pytest.approx(row["labels"]["human"]["mean"])
    assert set(row["per_face"]["face0"]) == {"human", *PARTS}
    assert row["per_face"]["face0"]["human"] == pytest.approx(row["per_face"]["face0"]["all"])
    assert row["pose_mae"] is None
    assert row["nme_3d"] is None
    assert row["labels"]["human"]["mean_of_yaw_bins"] is None
    # Faces 0, 3 and 6 have both eyes shut and the mouth open.
    assert (scores["closed"]["closed"], scores["closed"]["open"]) == (6, 10)
    assert scores["eyes"]["n"] == 16
    assert scores["mouth"]["n"] == 8
    assert scores["human"]["face0"]["right_eye"] < 0.15 < scores["human"]["face1"]["right_eye"]
    assert scores["human"]["face0"]["mouth"] > scores["human"]["face1"]["mouth"] + 0.1
    # All photos are one, so nothing varies on our side.
    assert scores["mouth"]["r"] is None or abs(scores["mouth"]["r"]) <= 1
    assert "NaN" not in (root / "a.json").read_text()
    for text in ("2D NME by part of the face", "Openness beside the human ratios"):
        assert text in " ".join(result.stdout.split())


def test_what_the_report_shows(bench):
    root, _ = bench
    page = (root / "out" / "report.html").read_text()
    assert "8 faces with human points," in page
    for title in (
        "Openness of the eyes, edge against people",
        "Openness of the mouth, edge against people",
        "Telling closed eyes by their openness",
        "The 8 best of edge by inner NME",
        "The 8 worst of edge by inner NME",
    ):
        assert title in page
    assert page.count("<svg") == 4
    assert page.count("data:image/jpeg") == 2
    text = (root / "out" / "report.md").read_text()
    assert "| engine | landmarks | inner | eyes | mouth | nose | brows | all |" in text
    assert "| edge | aflw |" in text
    assert "landmark set aflw" in text
    assert "landmark set aflw" in page
    assert "6 of 16" in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_page_opens_in_a_browser(bench, tmp_path):
    root, _ = bench
    page = Browser(tmp_path, 1200, 900)
    try:
        page.open((root / "out" / "report.html").as_uri())
        page.until("document.readyState === 'complete' && !!document.querySelector('figure')")
        assert page.ask("document.querySelectorAll('figure').length") == 6
        assert page.errors == []
    finally:
        page.close()


def test_the_folder_of_the_same_points_scores_the_same(bench, run, tmp_path):
    root, _ = bench
    write_pts_folder(tmp_path / "set", 8)
    code, _, err = run(
        "benchmark", "--dataset", tmp_path / "set", "--json", tmp_path / "b.json",
        "--landmarks", "aflw",
    )  # fmt: skip
    assert code == 0, err
    rows = [
        json.loads(path.read_text())["engines"]["edge"]
        for path in (root / "a.json", tmp_path / "b.json")
    ]
    # The file holds four decimals.
    assert rows[0]["expression"]["nme"] == pytest.approx(rows[1]["expression"]["nme"], abs=1e-3)


def test_human_points_are_scored_with_their_own_landmark_set(bench, run, tmp_path):
    """The points are the generator's own of the set aflw, so the set 300w is off."""
    root, _ = bench
    code, _, err = run(
        "benchmark", "--dataset", root / "set.npz", "--json", tmp_path / "b.json",
        "--report", tmp_path / "out", "--rounds", "0",
    )  # fmt: skip
    assert code == 0, err
    own, human = (json.loads(path.read_text()) for path in (root / "a.json", tmp_path / "b.json"))
    assert (own["settings"]["landmarks"], human["settings"]["landmarks"]) == ("aflw", None)
    own, human = (document["engines"]["edge"] for document in (own, human))
    assert (own["landmarks"], human["landmarks"]) == ("aflw", "300w")
    for part in ("eyes", "mouth", "nose", "brows"):
        assert human["expression"]["nme"][part] > own["expression"]["nme"][part] + 0.2
    assert "| edge | 300w |" in (tmp_path / "out" / "report.md").read_text()
    assert "landmark set 300w" in (tmp_path / "out" / "report.html").read_text()
    code, _, err = run("compare", root / "a.json", tmp_path / "b.json")
    assert (code, err.count("\n")) == (4, 1)
    assert "edge: the landmark set is aflw in one and 300w in the other" in err


def test_other_models_have_one_landmark_set(run, tmp_path):
    pytest.importorskip("onnx")
    write_human_npz(tmp_path / "set.npz", 2)
    model = write_constant_model(tmp_path / "original.onnx", "prnet", 256)
    wanted = ("benchmark", "--dataset", tmp_path / "set.npz", "--engine", model)
    code, _, err = run(*wanted, "--json", tmp_path / "a.json")
    assert code == 0, err
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["engines"][str(model)]["landmarks"] == "aflw"
    code, _, err = run(*wanted, "--landmarks", "300w")
    assert (code, err.count("error:")) == (4, 1)
    assert "UV layout 'prnet' has no landmark set '300w': it has 'aflw'" in err


def test_sampling_is_recorded_and_repeats(bench, run, tmp_path):
    root, _ = bench
    faces = {}
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        path = tmp_path / f"{name}.json"
        code, _, err = run(
            "benchmark", "--dataset", root / "set.npz", "--sample", "3", "--seed", seed,
            "--json", path,
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(path.read_text())
        assert (document["settings"]["sample"], document["settings"]["seed"]) == (3, seed)
        faces[name] = list(document["faces"])
    assert faces["a"] == faces["b"] != faces["c"]
    assert len(faces["a"]) == 3


def test_the_detector_finds_the_faces_of_a_human_set(bench, run, tmp_path):
    pytest.importorskip("mediapipe")
    root, _ = bench
    code, _, err = run(
        "benchmark", "--dataset", root / "set.npz", "--crop", "detector", "--limit", "2",
        "--json", tmp_path / "b.json",
    )  # fmt: skip
    assert code == 0, err
    document = json.loads((tmp_path / "b.json").read_text())
    assert document["settings"]["crop"] == "detector"
    assert document["engines"]["edge"]["missed"] == []
    assert document["engines"]["edge"]["expression"]["nme"]["nose"] < 5


def scores_of(document):
    return document["engines"]["edge"]["expression"]


def put(part, key, value):
    return lambda d: scores_of(d)[part].update({key: value})


@pytest.mark.parametrize(
    ("before", "after", "code", "message"),
    [
        (lambda d: None, lambda d: None, 0, ""),
        (put("eyes", "r", 0.80), put("eyes", "r", 0.77), 1, "r of eyes openness 0.800 -> 0.770"),
        (put("mouth", "r", 0.9), put("mouth", "r", 0.87), 1, "r of mouth openness 0.900 -> 0.870"),
        (put("eyes", "r", 0.80), put("eyes", "r", 0.785), 0, ""),
        (put("eyes", "r", 0.80), put("eyes", "r", 0.95), 0, ""),
        (put("eyes", "r", 0.80), put("eyes", "r", None), 1, "r of eyes openness 0.800 -> 0.000"),
        (put("nme", "inner", 2.0), put("nme", "inner", 2.03), 1, "NME human, inner points"),
        (put("nme", "inner", 2.0), put("nme", "inner", 2.015), 0, ""),
        (put("nme", "inner", 2.0), put("nme", "inner", 1.0), 0, ""),
        (put("nme", "eyes", 2.0), put("nme", "eyes", 2.5), 0, ""),
        (put("closed", "auc", 0.9), put("closed", "auc", 0.8), 0, ""),
    ],
)
def test_compare(bench, run, tmp_path, before, after, code, message):
    root, _ = bench
    paths = []
    for name, change in (("b", before), ("c", after)):
        document = json.loads((root / "a.json").read_text())
        change(document)
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(document))
    found, out, err = run("compare", *paths)
    assert found == code, err
    assert re.search(message, err)
    assert "NME human, inner points" in out


def broken(root):
    """One face of the set with a point far out of the picture."""
    points = write_pts_folder(root / "broken", 2)
    points[1, 4] = (900, 20)
    write_pts_folder(root / "broken", 2, points=points)
    return root / "broken"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--sample", "9"], 4, "cannot draw 9 faces: the set has 8"),
        (["--sample", "3", "--limit", "3"], 2, "--limit takes the first faces and --sample draws"),
        (["--labels", "original"], 2, "--labels original: the set has human points alone"),
        (["--reannotated", "{}"], 4, "a re-annotation belongs to AFLW2000-3D"),
        (["--dataset", "{}/a.json"], 4, "neither a folder nor a whole zip"),
        (["--dataset", "{}/broken"], 4, r"a1\.pts: face a1: point 4 \(900, 20\) lies out of the"),
    ],
)
def test_bad_input_is_one_line(bench, run, arguments, code, message):
    root, _ = bench
    broken(root)
    arguments = [a.format(root) for a in arguments]
    if "--dataset" not in arguments:
        arguments += ["--dataset", root / "set.npz"]
    found, _, err = run("benchmark", *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert found == code, err
    assert len(lines) == 1
    assert re.search(message, lines[0]), err
    assert "Traceback" not in err


def test_a_broken_photo_is_left_out_and_named(run, tmp_path):
    write_pts_folder(tmp_path / "set", 3)
    (tmp_path / "set" / "a1.jpg").write_bytes(b"no picture")
    code, _, err = run("benchmark", "--dataset", tmp_path / "set", "--json", tmp_path / "a.json")
    assert code == 0, err
    assert "a1: left out, cannot be read" in err
    document = json.loads((tmp_path / "a.json").read_text())
    assert list(document["unreadable"]) == ["a1"]
    assert document["engines"]["edge"]["expression"]["eyes"]["n"] == 4


@pytest.mark.slow
def test_shipped_edge_on_faces_that_people_marked(run, tmp_path):
    """The first forty faces: near the figures of all 870, and the same as plain arithmetic."""
    path = real_data("helen-faces/helen-faces.npz")
    code, _, err = run(
        "benchmark", "--dataset", path, "--limit", "40", "--json", tmp_path / "a.json"
    )
    assert code == 0, err
    row = json.loads((tmp_path / "a.json").read_text())["engines"]["edge"]
    scores = row["expression"]
    assert row["missed"] == []
    assert scores["nme"]["inner"] < 3.3
    assert scores["mouth"]["r"] > 0.75
    assert scores["eyes"]["n"] == 80
    with np.load(path) as data:
        points = data["pts68"][:40].transpose(0, 2, 1)
    for eye, start in (("right_eye", 36), ("left_eye", 42)):
        p = points[:, start : start + 6]
        lids = np.linalg.norm(p[:, [1, 2]] - p[:, [5, 4]], axis=-1).mean(1)
        ratios = lids / np.linalg.norm(p[:, 0] - p[:, 3], axis=-1)
        assert [h[eye] for h in scores["human"].values()] == pytest.approx(ratios, abs=1e-5)
