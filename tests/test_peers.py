"""benchmarks/peers.py: its figures against hand-computed ones, and runs on small sets.

3DDFA_V2 and PRNet run on files that the tests write in their formats, with invented numbers.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posgan_edge import load_layout
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import LabelledFace
from posgan_edge.evaluation.peers import load_peers
from posgan_edge.evaluation.report.peers import peers_plot, peers_table
from tests.helpers.data import write_aflw2000, write_constant_model, write_human_npz
from tests.helpers.networks import write_network
from tests.helpers.peers import BFM_VERTICES, write_bfm, write_prnet, write_tddfa

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_tables

    return peer_tables


def face(degrees=0.0, size=1.0):
    """Points (68, 2) in a box of 100 x 100, level eyes, turned clockwise and scaled."""
    points = np.column_stack([np.linspace(0, 100, 68), np.linspace(0, 100, 68)])
    points[36:42, 1] = points[42:48, 1] = 40
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]]) * size


def test_a_constant_offset_of_the_points_is_no_error(figures):
    offset = np.random.default_rng(0).normal(0, 3, (68, 2))
    pairs = []
    for size in (1.0, 0.2, 4.0):
        truth = face(size=size)
        pairs.append((truth + size * offset, truth))
    assert figures.without_bias(pairs) == pytest.approx(np.zeros((3, 68)), abs=1e-9)


def test_the_offset_turns_with_the_eyes(figures):
    """Four pixels along the line of the eyes, of a face that is level and of one on its side."""
    pairs = [
        (np.add(face(), (4, 0)), face()),
        (np.add(face(90), (0, 4)), face(90)),
    ]
    assert figures.without_bias(pairs) == pytest.approx(np.zeros((2, 68)), abs=1e-9)
    # The same way on the screen is another way in the face: the mean is (2, -2), (2, 2) away.
    pairs[1] = (np.add(face(90), (4, 0)), face(90))
    assert figures.without_bias(pairs) == pytest.approx(np.full((2, 68), np.sqrt(8)))


def test_what_varies_remains(figures):
    pairs = [(np.add(face(), (shift, 1)), face()) for shift in (0, 2, 4)]
    expected = np.repeat([[2.0], [0.0], [2.0]], 68, axis=1)
    assert figures.without_bias(pairs) == pytest.approx(expected, abs=1e-9)


def run_peers(*arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / "peers.py", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_on_human_points(tmp_path):
    pytest.importorskip("mediapipe")
    write_human_npz(tmp_path / "set.npz", 4)
    done = run_peers(tmp_path / "set.npz", "--sample", "3", "--seed", "1", "--json", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "## set: human labels, 3 same faces" in done.stdout
    assert "| edge | 3 of 3 |" in done.stdout
    document = json.loads((tmp_path / "a").read_text())
    assert document["machine"]["cores"]
    assert document["settings"] == {
        "crop": "gt", "limit": None, "sample": 3, "seed": 1, "timed": True,
    }  # fmt: skip
    data = document["sets"]["set"]
    assert data["scores"]["human"]["faces"] == 3
    table = data["scores"]["human"]["same"]
    assert list(table) == ["edge", "FaceMesh", "FaceMesh, padded crop where nothing was found"]
    # The points are the generator's own on two passes, under noise; FaceMesh sees the same face.
    assert table["edge"]["inner"] < 3
    assert 1 < table["FaceMesh"]["inner"] < 8
    assert table["FaceMesh"]["inner, without bias"] < table["FaceMesh"]["inner"]
    assert data["rows"]["FaceMesh"]["found"] == 3
    assert data["rows"]["FaceMesh, padded crop where nothing was found"]["retried"] == 0
    assert document["methods"]["FaceMesh"]["about"]["refine_landmarks"]
    for method in document["methods"].values():
        assert 0 < method["ms"]["median"] <= method["ms"]["p90"]
        assert 0.1 < method["start_seconds"] < 120
        assert 40 < method["memory_mb"] < 2000


def test_faces_that_are_not_found_are_counted(tmp_path):
    """Photos of noise: the box of the labels is all that an engine needs."""
    pytest.importorskip("mediapipe")
    folder = write_aflw2000(tmp_path / "set", 3)
    done = run_peers(folder, "--untimed", "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    data = document["sets"]["set"]
    assert data["rows"]["edge"]["found"] == 3
    assert data["rows"]["FaceMesh"]["missed"] == ["image00000", "image00001", "image00002"]
    assert data["rows"]["FaceMesh, padded crop where nothing was found"]["retried"] == 3
    assert set(data["scores"]["original"]["own"]) == {"edge"}
    assert data["scores"]["reannotated"]["same"] == {}
    assert data["scores"]["reannotated"]["faces"] == 0
    assert document["methods"]["edge"]["ms"] is None
    assert document["methods"]["edge"]["start_seconds"] is None
    assert "not measured" in done.stdout


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_networks

    return peer_networks


def labelled(box):
    """A face whose label box is (x, y, width, height)."""
    x, y, width, height = box
    points = np.full((68, 2), (x, y), np.float32)
    points[1] += (width, height)
    return LabelledFace("face", Path("none.png"), points, None, None)


def numbers(matrix, shape=0.0, expression=0.0):
    """What the network returns for these 62 numbers, scaled by deviation 2 and mean 1."""
    wanted = np.zeros(62)
    wanted[:12], wanted[12], wanted[52] = np.ravel(matrix), shape, expression
    return (wanted - 1) / 2


#: Unit pose with a translation: x, y and z of the model are pixels of the crop.
UNIT = [[1, 0, 0, 20], [0, 1, 0, 30], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("box", "matrix", "shape", "expression", "point", "expected"),
    [
        # A box of 120 / sqrt(2) makes a crop of 120: 1-based x, y from the bottom.
        ((40, 40, 120 / 2**0.5, 60), UNIT, 0, 0, (5, 7), (5 + 20 - 1, 120 - 7 - 30)),
        ((40, 40, 120 / 2**0.5, 60), UNIT, 3, -4, (5, 7), (8 + 20 - 1, 120 - 3 - 30)),
        # Twice the crop, twice the distances.
        ((40, 40, 60, 240 / 2**0.5), UNIT, 0, 0, (5, 7), (2 * 24, 2 * 83)),
        # Turned by 90 degrees: x becomes y.
        ((0, 0, 120 / 2**0.5, 1), [[0, -1, 0, 50], [1, 0, 0, 60], [0, 0, 1, 0]], 0, 0, (5, 7),
         (-7 + 50 - 1, 120 - 5 - 60)),
    ],
)  # fmt: skip
def test_3ddfa_v2_points(tmp_path, networks, box, matrix, shape, expression, point, expected):
    points = np.zeros((68, 3))
    points[8] = (*point, 1)
    network = write_tddfa(tmp_path / "a.onnx", numbers(matrix, shape, expression))
    peer = networks.Tddfa(str(network), str(write_bfm(tmp_path, points)), None)
    found = peer.find(np.zeros((300, 300, 3), np.uint8), labelled(box), "")
    x, y, width, height = box
    side = max(width, height) * 2**0.5
    corner = np.array([x + width / 2 - side / 2, y + height / 2 - side / 2])
    # Pixel i spans [i, i + 1): the corner's half pixel is taken off and added again.
    assert found.shape == (68, 2)
    assert found[8] == pytest.approx(corner + expected, abs=1e-3)


def test_3ddfa_v2_gets_blue_first_from_minus_one_to_one(tmp_path, networks):
    network = write_tddfa(tmp_path / "a.onnx", numbers(UNIT), blue=3)
    peer = networks.Tddfa(str(network), str(write_bfm(tmp_path, np.zeros((68, 3)))), None)
    box = (100, 100, 120 / 2**0.5, 10)
    found = [
        peer.find(np.full((400, 400, 3), color, np.uint8), labelled(box), "")[8, 0]
        for color in ((0, 9, 99), (255, 9, 99))
    ]
    # The number is multiplied by its deviation, 2.
    assert found[1] - found[0] == pytest.approx(2 * 255 / 128, abs=1e-3)


@pytest.mark.parametrize(
    ("region", "shape", "inside"),
    [
        ((1, 1, 4, 3), (2, 3), 6),
        ((-2.4, -1.6, 2.4, 2.4), (4, 4), 4),
        ((3, 3, 9, 9), (6, 6), 4),
        ((50, 50, 60, 55), (5, 10), 0),
        ((1.2, 1.2, 1.3, 1.3), (1, 1), 0),
    ],
)
def test_3ddfa_v2_cuts_whole_pixels(networks, region, shape, inside):
    picture = np.full((5, 5, 3), 7, np.uint8)
    patch = networks.cut(picture, np.array(region))
    assert patch.shape == (*shape, 3)
    assert (patch == 7).sum() == 3 * inside


@pytest.mark.parametrize("box", [(60, 50, 80, 120), (0, 0, 31, 31)])
def test_prnet_points(tmp_path, networks, box):
    """The stand-in's map is the crop itself, so that landmarks lie where the layout has them."""
    peer = networks.open_prnet(str(write_prnet(tmp_path / "a.onnx", red=10)), None)
    x, y, width, height = box
    side = int(0.8 * (width + height))
    pixels = load_layout("prnet").landmark_uv * 256 - 0.5
    # Pixel 0 and pixel 255 lie on the edges of the crop.
    corner = np.array([x + width / 2 - side / 2, y + height / 2 - side / 2])
    for color, shift in (((200, 100, 0), 0), ((0, 100, 255), 10)):
        picture = np.full((500, 500, 3), color, np.uint8)
        inside = labelled((x + 200, y + 200, width, height))
        found = peer.find(picture, inside, "")
        expected = corner + 200 + (pixels + np.array([shift, 0])) * side / 255
        assert found == pytest.approx(expected, abs=1e-2)


def test_all_methods_in_one_run(tmp_path):
    """Two sets, four methods, one table and one plot; the report takes them."""
    pytest.importorskip("mediapipe")
    write_human_npz(tmp_path / "human.npz", 2)
    points = np.random.default_rng(0).normal(0, 30, (68, 3))
    bfm = write_bfm(tmp_path, points)
    network = write_tddfa(tmp_path / "mb1.onnx", numbers(UNIT))
    record = tmp_path / "a.json"
    done = run_peers(
        write_aflw2000(tmp_path / "set", 3), tmp_path / "human.npz", "--untimed",
        "--3ddfa-v2", network, "--3ddfa-bfm", bfm, "--prnet", write_prnet(tmp_path / "prnet.onnx"),
        "--json", record,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = load_peers(record)
    names = ["edge", "FaceMesh", "3DDFA_V2", "PRNet"]
    assert list(document.methods) == names
    assert {n: data.faces for n, data in document.sets.items()} == {"set": 3, "human": 2}
    for name in ("edge", "3DDFA_V2", "PRNet"):
        assert [data.rows[name].found for data in document.sets.values()] == [3, 2]
    table = peers_table(document)
    assert table["header"] == ["", *names]
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows["found, AFLW2000-3D (set; 0 found by all)"] == ["3 of 3", "0 of 3", *2 * ["3 of 3"]]
    assert rows["found, human points (human; 2 found by all)"] == 4 * ["2 of 2"]
    assert rows["NME, re-annotated, yaw 60 to 90, %"] == 4 * ["not measured"]
    errors = [float(value) for value in rows["NME, human points, inner points, %"]]
    assert errors[0] < 3 < errors[2]
    assert rows["milliseconds per face"] == 4 * ["not measured"]
    assert peers_plot(document).count("<svg") == 1
    assert "| NME, human points, inner points, % |" in done.stdout
    assert str(tmp_path) not in record.read_text()


def test_start_and_memory_of_a_process(tmp_path, networks, monkeypatch):
    import cv2
    import peer_probe

    monkeypatch.setattr(peer_probe, "STARTS", 1)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    bfm = str(write_bfm(tmp_path, np.zeros((68, 3))))
    network = str(write_tddfa(tmp_path / "a.onnx", numbers(UNIT)))
    prnet = str(write_constant_model(tmp_path / "b.onnx", "prnet", 256))
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((300, 300, 3), np.uint8))
    points = labelled((100, 100, 60, 60)).original
    face = LabelledFace("face", tmp_path / "photo.png", points, None, None)
    specs = {
        "3DDFA_V2": peer_probe.Spec("3ddfa-v2", (network, bfm)),
        "PRNet": peer_probe.Spec("prnet", (prnet,)),
    }
    found = peer_probe.starts(specs, face)
    for start in found.values():
        assert 0.05 < start.seconds < 120
        assert 30 < start.memory_mb < 2000
    with pytest.raises(BadInput, match=r"gone: could not be measured .*no such model file"):
        peer_probe.starts({"gone": peer_probe.Spec("ours", ("none.onnx",))}, face)


class _Runs:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_run_no_code(tmp_path, networks):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"u": _Runs(str(tmp_path / "made"))}))
    with pytest.raises(BadInput, match=r"a\.pkl: not a pickled dictionary of arrays: names posix"):
        networks.read_arrays(tmp_path / "a.pkl", ("u",))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_pickle(tmp_path, networks, protocol):
    wanted = {"u": np.arange(6.0).reshape(2, 3), "k": np.arange(3, dtype=np.int32)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(wanted, protocol))
    found = networks.read_arrays(tmp_path / "a.pkl", ("u", "k"))
    assert np.array_equal(found["u"], wanted["u"])
    assert found["k"].dtype == np.int32


def test_a_model_of_the_published_size(tmp_path, networks):
    """115,095 numbers with 50 modes, pickled as Python 2 could read it, the triangles apart."""
    points = np.random.default_rng(2).normal(0, 30, (68, 3))
    path = write_bfm(tmp_path, points, extra=BFM_VERTICES - 68)
    content = pickle.loads(path.read_bytes())
    del content["tri"]  # configs/tri.pkl
    content["w_shp"] = np.asfortranarray(content["w_shp"])
    path.write_bytes(pickle.dumps(content, 2))
    assert content["u"].shape == (115_095, 1)
    assert content["keypoints"].dtype == np.int64
    network = write_tddfa(tmp_path / "a.onnx", numbers(UNIT, shape=3))
    peer = networks.Tddfa(str(network), str(path), None)
    found = peer.find(np.zeros((300, 300, 3), np.uint8), labelled((100, 100, 120 / 2**0.5, 9)), "")
    corner = np.array([100 + 60 / 2**0.5 - 60, 104.5 - 60])
    expected = corner + np.column_stack([points[:, 0] + 3 + 20 - 1, 120 - points[:, 1] - 30])
    assert found == pytest.approx(expected, abs=1e-3)


def write_bfm_of(path, **change):
    """The stand-in's BFM with some arrays changed; None leaves one out."""
    bfm = write_bfm(path.parent, np.zeros((68, 3)))
    content = pickle.loads(bfm.read_bytes()) | change
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": None}, "holds no array 'u'"),
        ({"w_shp": np.zeros((234, 9), np.float32)}, "w_shp and w_exp need 40 and 10 columns"),
        ({"w_exp": np.zeros((3, 10), np.float32)}, r"w_exp is float32 \(3, 10\)"),
        ({"keypoints": np.arange(204) + 99}, "keypoints lie outside the 234 numbers"),
        ({"keypoints": np.arange(9)}, "keypoints is int64 "),
        ({"u": np.full((234, 1), np.nan)}, "u holds values that are not finite"),
        ({"u": np.array([None] * 234)}, "u is object"),
    ],
)
def test_other_models_of_3ddfa_v2(tmp_path, networks, change, message):
    write_bfm_of(tmp_path / "b.pkl", **change)
    network = write_tddfa(tmp_path / "a.onnx", numbers(UNIT))
    with pytest.raises(BadInput, match=rf"b\.pkl: {message}") as caught:
        networks.Tddfa(str(network), str(tmp_path / "b.pkl"), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{}/none.npz"], 4, "error: "),
        (["{}/set.npz", "--sample", "9"], 4, "cannot draw 9 faces: the set has 2"),
        (["{}/set.npz", "--sample", "1", "--limit", "1"], 2, "--limit takes the first faces"),
        (["{}/set.npz", "--engine", "{}/none.onnx"], 4, "no such model file"),
        (["{}/set.npz", "--engine", "edge", "--engine", "edge"], 2, "edge: is given twice"),
        (["{}/set.npz", "--json", "{}"], 4, "is a folder"),
        (["{}/set.npz", "{}/set.npz"], 4, "there are two sets of the name set"),
        (["{}/set.npz", "--3ddfa-v2", "{}/a.onnx"], 2, "needs both its network and its model"),
        (["{}/set.npz", "--3ddfa-v2", "{}/a.onnx", "--3ddfa-bfm", "{}/none.pkl"], 4,
         "none.pkl: cannot be read (No such file or directory)"),
        (["{}/set.npz", "--3ddfa-v2", "{}/a.onnx", "--3ddfa-bfm", "{}/far/bfm.pkl"], 4,
         "param_mean_std_62d_120x120.pkl: no such file"),
        (["{}/set.npz", "--3ddfa-v2", "{}/set.npz", "--3ddfa-bfm", "{}/far/bfm.pkl"], 4,
         "set.npz: not an ONNX model that can be run"),
        (["{}/set.npz", "--3ddfa-v2", "{}/ict.onnx", "--3ddfa-bfm", "{}/far/bfm.pkl"], 4,
         "ict.onnx: not 3DDFA_V2's network"),
        (["{}/set.npz", "--prnet", "{}/none.onnx"], 4, "no such model file"),
        (["{}/set.npz", "--prnet", "{}/ict.onnx"], 4,
         "has maps of 16 pixels in the layout ict: PRNet's are 256 in the layout prnet"),
        (["{}/set.npz", "--prnet", "{}/small.onnx"], 4, "small.onnx: not PRNet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, arguments, code, message):
    pytest.importorskip("mediapipe")
    write_human_npz(tmp_path / "set.npz", 2)
    write_tddfa(tmp_path / "a.onnx", numbers(UNIT))
    write_network(tmp_path / "ict.onnx")
    write_network(tmp_path / "small.onnx", shape=(1, 64, 64, 3), maps=(1, 64, 64, 3))
    (tmp_path / "far").mkdir()
    write_bfm_of(tmp_path / "far" / "bfm.pkl")
    (tmp_path / "far" / "param_mean_std_62d_120x120.pkl").unlink()
    done = run_peers(*(a.format(tmp_path) for a in arguments))
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
