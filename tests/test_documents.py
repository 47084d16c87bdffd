"""The one reader and writer of documents, and the documents that version 0.1 left behind."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import pytest
from msgspec import structs

from posgan_edge.build.calibration import CalibrationRecord
from posgan_edge.build.engine import TARGETS
from posgan_edge.build.recipe import load_build_recipe
from posgan_edge.documents import LIMIT, Document, load, nan_to_none, plain, save
from posgan_edge.engines.manifest import load_manifest
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.compare import compare
from posgan_edge.evaluation.document import load_benchmark
from posgan_edge.evaluation.report.tables import tables_of

ROOT = Path(__file__).parents[1]


class Inner(Document, frozen=True):
    lr: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    betas: tuple[float, float] = (0.9, 0.99)


class Outer(Document, frozen=True):
    kind: ClassVar[str] = "thing"

    name: str
    epochs: Annotated[int, msgspec.Meta(ge=1)] = 1
    inner: Inner = Inner()
    share: float | None = None


@dataclass(frozen=True)
class Point:
    x: float


class Points(Document, frozen=True):
    points: tuple[Point, ...]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a mapping, got null"),
        ("- 1", "expected a mapping, got a list"),
        ("epochs: 3", "key 'name' is missing"),
        ("name: x\nlerning_rate: 1", "unknown key 'lerning_rate'"),
        ("name: x\ninner: {beta: 1}", "unknown key 'beta' in inner"),
        ("name: 1", "name: expected str, got int"),
        ("name: x\nepochs: -1", "epochs: expected int >= 1"),
        ("name: x\nepochs: 1.5", "epochs: expected int, got float"),
        ("name: x\nepochs: true", "epochs: expected int, got bool"),
        ("name: x\nshare: .nan", "share: nan is not a finite number"),
        ("name: x\ninner: {lr: -.inf}", "inner.lr: -inf is not a finite number"),
        ("name: x\ninner: {lr: fast}", "inner.lr: expected float, got str"),
        ("name: x\ninner: {betas: 0.9}", "inner.betas: expected a list, got float"),
        ("name: x\ninner: {betas: [1]}", "inner.betas: expected a list of length 2, got 1"),
        ("name: [x", "not valid YAML: while parsing"),
        ("a: &a [1]\nb: *a", "not valid YAML: aliases"),
        ("x: !!python/object:os.system {}", "not valid YAML: could not determine a constructor"),
        ("[" * 20000, "not valid YAML: nested too deeply"),
    ],
)
def test_refused_documents_name_file_and_field(tmp_path, text, reason):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load(path, Outer)
    assert str(error.value).startswith(f"{path}: not a valid thing: {reason}")
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"name": "x", "share": NaN}', "share: nan is not a finite number"),
        (b'{"name": "x", "share": 1e999}', "share: inf is not a finite number"),
        (b'{"name": "x"', "Expecting"),
        (b'{"name": "\xff"}', "not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_refused_json(tmp_path, data, reason):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(BadInput) as error:
        load(path, Outer)
    assert str(error.value).startswith(f"{path}: not a valid thing: {reason}")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: None, "cannot be read: No such file"),
        (lambda p: p.mkdir(), "cannot be read: Is a directory"),
        (os.mkfifo, "cannot be read: not a regular file"),
        (lambda p: p.symlink_to("/dev/zero"), "cannot be read: not a regular file"),
        (lambda p: p.symlink_to(p), "cannot be read: Too many levels"),
        (lambda p: p.write_bytes(b" " * (LIMIT + 1)), "is larger than 32 MiB"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(tmp_path, make, reason):
    path = tmp_path / "x.json"
    make(path)
    with pytest.raises(BadInput) as error:
        load(path, Outer)
    assert str(error.value).startswith(f"{path}: {reason}")


def test_unknown_keys_of_dataclasses_are_refused_too(tmp_path):
    (tmp_path / "x.json").write_text('{"points": [{"x": 1}, {"x": 2, "y": 3}]}')
    with pytest.raises(BadInput, match=r"unknown key 'y' in points\.1$"):
        load(tmp_path / "x.json", Points)


def test_documents_come_back_as_they_were_written(tmp_path):
    document = Outer("ü", 3, Inner(2e-3), None)
    save(tmp_path / "x.json", document)
    assert load(tmp_path / "x.json", Outer) == document
    (tmp_path / "x.yaml").write_text("name: ü\nepochs: 3\ninner: {lr: 2e-3}\nshare: null")
    assert load(tmp_path / "x.yaml", Outer) == document
    with pytest.raises(BadInput, match="share: nan is not a finite number"):
        save(tmp_path / "x.json", Outer("x", share=float("nan")))
    assert load(tmp_path / "x.json", Outer) == document
    with pytest.raises(AttributeError):
        document.name = "y"  # type: ignore[misc]


RECORDED = sorted(
    path
    for path in (ROOT / "benchmarks" / "results").glob("*.json")
    if '\n "schema": 2' in path.read_text()
)
#: A report of version 0.1, three of its faces.
OLD = Path(__file__).parent / "data" / "benchmark-0.1.json"


@pytest.mark.parametrize("path", [OLD, *RECORDED], ids=lambda p: p.stem)
def test_recorded_benchmarks_read_as_they_were_written(path, tmp_path):
    """All figures stay; what was "not measured" or NaN is None, and is written as null."""
    document = load_benchmark(path)
    raw = json.loads(path.read_text())
    for name, row in raw["engines"].items():
        found = plain(document.engines[name])
        for key, value in row.items():
            assert found[key] == (None if value == "not measured" else nan_to_none(value)), key
    save(tmp_path / "again.json", document)
    assert load_benchmark(tmp_path / "again.json") == document
    assert "not measured" not in (tmp_path / "again.json").read_text()
    assert all(not change.worse for change in compare(document, document))
    texts = [cell for table in tables_of(document) for row in table["rows"] for cell in row]
    assert "not measured" in texts
    assert not {"nan", "None"} & set(texts)


def test_recorded_benchmarks_are_many():
    assert len(RECORDED) >= 5
    assert '"not measured"' in OLD.read_text()


def changed(*places, value=None, remove=False):
    """A change of the content at a place in nested mappings and lists."""

    def change(content):
        *parents, last = places
        for key in parents:
            content = content[key]
        if remove:
            del content[last]
        else:
            content[last] = value

    return change


EDGE = ("engines", "edge")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed("schema", value=1), "benchmark schema 1, not 2: run the benchmark again"),
        (changed("schema", value="2"), "benchmark schema 2, not 2"),
        (changed("engines", value=None), "engines: expected a mapping, got null"),
        (changed("engines", value=[]), "engines: expected a mapping, got a list"),
        (changed(*EDGE, value=3), "expected a mapping, got int"),
        (changed("fases", value={}), "unknown key 'fases'"),
        (changed("settings", remove=True), "key 'settings' is missing"),
        (changed("settings", "passes", value=1.5), "settings.passes: expected int, got float"),
        (changed("settings", "pases", value=1), "unknown key 'pases' in settings"),
        (changed(*EDGE, "megabytes", value="11"), "megabytes: expected float, got str"),
        (changed(*EDGE, "megabyte", value=11), "unknown key 'megabyte'"),
        (changed(*EDGE, "engine", "cores", value=2), "unknown key 'cores' in engines.edge.engine"),
        (
            changed(*EDGE, "labels", "original", "mean", value=None),
            "mean: expected float, got null",
        ),
        (changed(*EDGE, "labels", "original", "worst", value=1), "unknown key 'worst' in "),
        (changed(*EDGE, "missed", value="image00002"), "missed: expected a list, got str"),
        (changed(*EDGE, "per_face", value=[1]), "per_face: expected a mapping, got a list"),
        (changed(*EDGE, "pose_mae", "mean", remove=True), "key 'mean' is missing in pose_mae"),
        (changed("faces", "image00002", value=["a"]), "expected float, got str"),
        (changed("faces", "image00002", 0, value=float("inf")), "inf is not a finite number"),
    ],
)
def test_changed_benchmarks_name_file_and_field(tmp_path, change, reason):
    content = json.loads((ROOT / "benchmarks/results/aflw2000-edge-gt.json").read_text())
    change(content)
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(BadInput) as error:
        load_benchmark(tmp_path / "b.json")
    assert str(error.value).startswith(f"{tmp_path / 'b.json'}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["inner", "eyes", "mouth"])
def test_a_benchmark_on_human_points_has_every_figure(tmp_path, key):
    content = json.loads((ROOT / "benchmarks/results/helen-edge.json").read_text())
    changed(*EDGE, "expression", "nme", key, remove=True)(content)
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=rf"expression: key '{key}' is missing in nme$"):
        load_benchmark(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (["edge"], ["edge"], {"edge"}),
        (["edge"], ["edge-int8.onnx"], {"edge -> edge-int8.onnx"}),
        (["edge", "reference: torch"], ["e.onnx"], {"edge -> e.onnx"}),
        (["edge", "a"], ["edge", "b"], {"edge"}),
        (["edge", "a"], ["b"], "no engine in common: edge, a and b"),
        ([], ["b"], "no engine in common: none and b"),
    ],
)
def test_engines_of_two_benchmarks_are_paired(before, after, names):
    document = load_benchmark(ROOT / "benchmarks/results/aflw2000-edge-gt.json")
    row = document.engines["edge"]

    def having(engines):
        rows = {n: structs.replace(row, reference=n.startswith("reference")) for n in engines}
        return structs.replace(document, engines=rows)

    if isinstance(names, str):
        with pytest.raises(BadInput, match=names):
            compare(having(before), having(after))
    else:
        changes = compare(having(before), having(after))
        assert {change.engine for change in changes} == names
        assert {change.delta for change in changes} == {0.0}


def test_calibration_record_of_version_0_1():
    record = CalibrationRecord.load(ROOT / "calibration" / "edge-mse.json")
    assert (record.method, record.layout, len(record.images)) == ("mse", "ict", 100)
    assert (
        record.digest == json.loads((ROOT / "calibration" / "edge-mse.json").read_text())["digest"]
    )


def test_manifest_of_version_0_1(tmp_path):
    content = {
        "engine_sha256": "0", "onnx_sha256": "1", "runtime": "onnxruntime",
        "runtime_version": "1.20.0", "precision": "int8", "name": "edge", "layout": "ict",
        "input_size": 128, "map_size": 128, "batch": 0, "command": "posgan-edge build-engine",
        "compute_capability": "", "gpu": "", "system": "Linux", "kept_float": ["node_conv"],
        "calibration": "2", "timing_cache": "", "build_seconds": 1.5,
        "accuracy": {"pixels": 0.2, "nme_points": float("nan"), "faces": 40},
        "machine": {"cpu": "x", "cores": 2}, "schema": 1,
    }  # fmt: skip
    (tmp_path / "a.onnx.json").write_text(json.dumps(content, indent=1))
    manifest = load_manifest(tmp_path / "a.onnx")
    assert manifest.kept_float == ("node_conv",)
    assert manifest.accuracy == {"pixels": 0.2, "nme_points": None, "faces": 40.0}


@pytest.mark.parametrize("path", sorted((ROOT / "export").glob("*.yaml")), ids=lambda p: p.stem)
def test_build_recipes_of_version_0_1(path):
    assert load_build_recipe(path).target in TARGETS


def test_build_recipe_keys_are_read_in_both_spellings(tmp_path):
    (tmp_path / "r.yaml").write_text("max_nme: 1\nmax-pixels: 2e-1\ncompute-capability: 8.9")
    recipe = load_build_recipe(tmp_path / "r.yaml")
    assert (recipe.max_nme, recipe.max_pixels, recipe.compute_capability) == (1.0, 0.2, 8.9)
