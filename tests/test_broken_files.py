"""Files of the package's own kinds that are broken, foreign or changed: one line each."""

import json
import os
from itertools import pairwise

import numpy as np
import onnx
import pytest

from posgan_edge.archives import read_arrays
from posgan_edge.build.calibration import CalibrationFaces, CalibrationRecord, calibrate
from posgan_edge.build.graph import load_model
from posgan_edge.documents import plain
from posgan_edge.engines.manifest import load_manifest, manifest_path
from posgan_edge.errors import BadInput
from tests.helpers.data import PORTRAIT, write_aflw2000, write_pack

EDGE = PORTRAIT.with_name("edge.onnx")


def one_line(error, path):
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def resized(jpeg, offsets, side):
    """The pack's pictures with the second one of another size."""
    import cv2

    parts = [jpeg[a:b] for a, b in pairwise(offsets)]
    parts[1] = cv2.imencode(".jpg", np.zeros((*side, 3), np.uint8))[1]
    ends = np.cumsum([0, *(len(part) for part in parts)])
    return {"jpeg": np.concatenate(parts), "offsets": ends}


PACKS = [
    ("train-0", lambda d: {"yaw": d["yaw"][:-1]}, r"yaw is float32 \(23,\), not floats \(24\)"),
    ("train-0", lambda d: {"yaw": d["yaw"].astype(int)}, "yaw is int64"),
    ("train-0", lambda d: {"yaw": d["yaw"].astype(str)}, "yaw is <U"),
    ("train-0", lambda d: {"yaw": d["yaw"] * np.nan}, "yaw holds values that are not finite"),
    ("train-0", lambda d: {"codes": d["codes"][:, :3]}, r"codes is float32 \(24, 3\)"),
    ("train-0", lambda d: {"codes": d["codes"][0]}, r"codes is float32 \(4,\)"),
    ("train-0", lambda d: {"codes": d["codes"] + np.inf}, "codes holds values that are not finite"),
    ("train-0", lambda d: {"codes": d["codes"].astype(np.complex64)}, "codes is complex64"),
    ("train-0", lambda d: {"codes": d["codes"][:-1]}, "yaw is float32"),
    ("train-0", lambda d: {"offsets": d["offsets"][:-1]}, r"offsets is int64 \(24,\)"),
    ("train-0", lambda d: {"offsets": d["offsets"] * 1.0}, "offsets is float64"),
    ("train-0", lambda d: {"offsets": d["offsets"][::-1]}, "offsets do not rise"),
    ("train-0", lambda d: {"offsets": d["offsets"] - 5}, "offsets do not rise"),
    ("train-0", lambda d: {"offsets": d["offsets"] * 3}, "offsets do not rise"),
    ("train-0", lambda d: {"jpeg": d["jpeg"][:1000]}, "offsets do not rise"),
    ("train-0", lambda d: {"jpeg": d["jpeg"].astype(np.uint16)}, r"jpeg is uint16 .*, not uint8"),
    ("train-0", lambda d: {"jpeg": d["jpeg"].astype(float)}, "jpeg is float64"),
    ("train-0", lambda d: {"jpeg": d["jpeg"] * 0}, "face 0: is not a picture"),
    ("train-0", lambda d: resized(d["jpeg"], d["offsets"], (120, 60)), "60x120: not square"),
    ("train-0", lambda d: resized(d["jpeg"], d["offsets"], (64, 64)), "64x64: not square"),
    ("train-0", lambda d: {"eyes": np.zeros(24, np.float32)}, r"eyes is float32 \(24,\)"),
    ("train-0", lambda d: {"mouth": np.zeros((24, 2), np.float32)}, r"mouth is float32 \(24, 2\)"),
    ("train-0", lambda d: {"yaw": np.array([None] * 24)}, "a broken .npz file, or none: Object"),
    ("train-0", lambda d: {"yaw": None}, "holds no array 'yaw'"),
    ("basis", lambda d: {"mean": d["mean"][:, :8]}, r"mean is float32 \(16, 8, 3\)"),
    ("basis", lambda d: {"mean": d["mean"][0, 0, 0]}, r"mean is float32 \(\)"),
    ("basis", lambda d: {"mean": d["mean"] * np.nan}, "mean holds values that are not finite"),
    ("basis", lambda d: {"components": d["components"][:, :8]}, "components is float16"),
    ("basis", lambda d: {"components": d["components"].astype(int)}, "components is int64"),
    ("basis", lambda d: {"components": None}, "holds no array 'components'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), PACKS)
def test_broken_packs(tmp_path, name, change, message):
    from posgan_edge.training.datasets import PackMaps

    path = write_pack(tmp_path / "pack") / f"{name}.npz"
    with np.load(path) as data:
        content = dict(data)
    content |= change(content)
    np.savez(path, **{k: v for k, v in content.items() if v is not None})
    with pytest.raises(BadInput, match=message) as error:
        PackMaps(path.parent)
    one_line(error, path)


def test_a_pack_of_an_unknown_layout(tmp_path):
    from posgan_edge.training.datasets import PackMaps

    folder = write_pack(tmp_path / "pack")
    with np.load(folder / "basis.npz") as data:
        np.savez(folder / "basis.npz", **data, layout="bfm")
    with pytest.raises(BadInput, match="bfm"):
        PackMaps(folder)


def huge(path):
    """An .npz whose only array says that it has 2^47 numbers."""
    from zipfile import ZipFile

    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (140737488355328,), }"
    with ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such .npz file"),
        (lambda p: p.mkdir(), "no such .npz file"),
        (os.mkfifo, "no such .npz file"),
        (lambda p: p.write_bytes(b""), "a broken .npz file, or none"),
        (lambda p: p.write_bytes(b"PK\x03\x04" * 50), "a broken .npz file, or none"),
        (lambda p: np.save(p.open("wb"), np.zeros(3)), "a broken .npz file, or none"),
        (lambda p: np.savez(p.open("wb"), b=1), "holds no array 'a'"),
        (lambda p: np.savez(p.open("wb"), a=np.array([None])), "a broken .npz file, or none"),
        (huge, "a broken .npz file, or none"),
    ],
)
def test_what_is_no_npz(tmp_path, make, message):
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(BadInput, match=message) as error:
        read_arrays(path, ["a"])
    one_line(error, path)


def test_an_npz_that_would_not_fit(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(10**6))
    monkeypatch.setattr("posgan_edge.archives.LIMIT", 10**6)
    with pytest.raises(BadInput, match="its arrays take more than"):
        read_arrays(tmp_path / "x.npz", ["a"])


BROKEN_JSON = [
    (b"", "Expecting value"),
    (b"null", "got null"),
    (b"[]", "got a list"),
    (b"3", "got int"),
    (b'"x"', "got str"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' * 50_000, "nested too deeply"),
    (b"\xff\xfe{}", "not UTF-8 text"),
    (b'{"schema": 1}', "is missing"),
]


@pytest.fixture
def engine(tmp_path, run):
    assert run("build-engine", "--output", tmp_path / "e.onnx")[0] == 0
    return tmp_path / "e.onnx"


@pytest.mark.parametrize(("data", "message"), BROKEN_JSON)
def test_broken_manifests(tmp_path, run, data, message):
    path = tmp_path / "e.onnx"
    path.write_bytes(EDGE.read_bytes())
    manifest_path(path).write_bytes(data)
    with pytest.raises(BadInput, match=f"{message}|manifest version") as error:
        load_manifest(path)
    one_line(error, manifest_path(path))
    code, _, err = run("inspect", path)
    assert (code, len(err.splitlines())) == (4, 1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input_size", -1, "input_size: expected int >= 1"),
        ("map_size", 1e9, "map_size: expected int"),
        ("batch", "1", "batch: expected int, got str"),
        ("kept_float", "x", "kept_float: expected a list"),
        ("accuracy", [1], "accuracy: expected a mapping"),
        ("build_seconds", float("inf"), "build_seconds: inf is not a finite number"),
        ("schema", 2, "manifest version 2, not 1"),
        ("schema", None, "manifest version None, not 1"),
        ("colour", "red", "unknown key 'colour'"),
        ("engine_sha256", "0", "is not the file"),
    ],
)
def test_changed_manifests(engine, run, key, value, message):
    path = manifest_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    code, _, err = run("inspect", engine)
    assert (code, len(err.splitlines())) == (4, 1)
    assert message in err


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), os.mkfifo, lambda p: p.symlink_to("none")])
def test_what_is_no_manifest_file_is_not_passed_over(tmp_path, run, make):
    path = tmp_path / "e.onnx"
    path.write_bytes(EDGE.read_bytes())
    assert run("inspect", path)[0] == 0
    make(manifest_path(path))
    code, _, err = run("inspect", path)
    assert (code, len(err.splitlines())) == (4, 1)


@pytest.fixture(scope="module")
def model():
    return load_model(EDGE)


@pytest.fixture(scope="module")
def record():
    path = EDGE.parents[2] / "calibration" / "edge-mse.json"
    return CalibrationRecord.load(path)


@pytest.mark.parametrize(("data", "message"), BROKEN_JSON)
def test_broken_records(tmp_path, data, message):
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(BadInput, match=f"{message}|changed or is of another") as error:
        CalibrationRecord.load(tmp_path / "r.json")
    one_line(error, tmp_path / "r.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ranges", [], "ranges: expected a mapping"),
        ("ranges", {"image": 3}, "expected a list, got int"),
        ("ranges", {"image": [1]}, "expected a list of length 2"),
        ("ranges", {"image": [1, 0]}, "the range of 'image' ends below its start"),
        ("ranges", {"image": [0, 1e40]}, "expected float <= 1e"),
        ("ranges", {"image": [0, float("nan")]}, "nan is not a finite number"),
        ("ranges", {"image": ["0", "1"]}, "expected float, got str"),
        ("percentile", 0, "percentile: expected float > 0"),
        ("percentile", 101, "percentile: expected float <= 100"),
        ("images", [["a"]], "expected a list of length 2"),
    ],
)
def test_changed_records(tmp_path, record, key, value, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**plain(record), key: value, "digest": ""}))
    with pytest.raises(BadInput, match=message) as error:
        CalibrationRecord.load(path)
    one_line(error, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("add_146"), "has no range for 'add_146'"),
        (lambda r: r.update(other=(0.0, 1.0)), "has a range for the unknown 'other'"),
        (lambda r: r.clear(), "has no range for"),
    ],
)
def test_records_with_foreign_ranges(tmp_path, run, model, record, change, message):
    ranges = dict(record.ranges)
    change(ranges)
    content = {**plain(record), "ranges": ranges}
    broken = CalibrationRecord(**{**content, "images": record.images})
    broken.save(tmp_path / "r.json")
    with pytest.raises(BadInput, match=message) as error:
        broken.check_model(model, tmp_path / "r.json")
    one_line(error, tmp_path / "r.json")
    record.check_model(model, "r")
    code, _, err = run(
        "build-engine", "--precision", "int8", "--calibration", tmp_path / "r.json",
        "--output", tmp_path / "e.onnx",
    )  # fmt: skip
    assert code == 4
    assert message in err
    assert not (tmp_path / "e.onnx").exists()


def some_faces():
    images = np.random.default_rng(0).random((32, 3, 128, 128), np.float32)
    points = np.full((32, 68, 2), np.nan, np.float32)
    return CalibrationFaces(images, (("a", "0"),) * 32, points)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_calibrated(model, method, value):
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    node = next(n for n in broken.graph.node if n.op_type == "Conv")
    weights = next(i for i in broken.graph.initializer if i.name == node.input[1])
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0] = value
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    with pytest.raises(BadInput, match="not finite"):
        calibrate(broken, some_faces(), "ict", method)


def test_a_foreign_layout_is_not_calibrated(model):
    with pytest.raises(BadInput, match="bfm"):
        calibrate(model, some_faces(), "bfm")


@pytest.mark.parametrize("value", ["0", "-1", "101"])
def test_percentiles_that_there_are_not(run, tmp_path, value):
    code, _, err = run(
        "calibrate", "--images", tmp_path, "--percentile", value, "--output", tmp_path / "r.json"
    )
    assert (code, len(err.splitlines())) == (4, 1)
    assert f"percentile: {value} is not above 0" in err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_percentiles_that_are_no_numbers(run, tmp_path, value):
    code, _, err = run(
        "calibrate", "--images", tmp_path, "--percentile", value, "--output", tmp_path / "r.json"
    )
    assert code == 2
    assert f"'--percentile': {value} is not a finite number" in err


def test_calibrate_leaves_out_broken_pictures(run, tmp_path):
    folder = write_aflw2000(tmp_path / "set", 34)
    for index, data in ((3, b"no picture"), (20, b"")):
        (folder / f"image{index:05d}.jpg").write_bytes(data)
    code, out, err = run(
        "calibrate", "--images", folder, "--method", "minmax", "--output", tmp_path / "r.json"
    )
    assert code == 0, err
    assert "from 32 faces" in out
    assert "2 pictures could not be read" in out
    assert [line.split(":")[1].strip() for line in err.splitlines() if "note" in line] == [
        "left out", "left out",
    ]  # fmt: skip
    assert "image00003.jpg" in err
    assert "image00020.jpg: is empty" in err
    names = [name for name, _ in CalibrationRecord.load(tmp_path / "r.json").images]
    assert len(names) == 32
    assert not {"image00003.jpg", "image00020.jpg"} & set(names)
