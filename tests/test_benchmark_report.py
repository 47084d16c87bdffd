"""``posgan-edge benchmark --report`` and ``compare``, on a small invented set."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.data import PORTRAIT, real_data, write_aflw2000

PEERS = Path(__file__).parents[1] / "benchmarks" / "results" / "peers.json"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of two engines and the reference over five faces, one of them no picture."""
    from click.testing import CliRunner

    pytest.importorskip("mediapipe")
    from posgan_edge.cli import cli

    root = tmp_path_factory.mktemp("report")
    data = write_aflw2000(root / "set", 5)
    (data / "image00003.jpg").write_bytes(b"no picture")
    shutil.copy(PORTRAIT, data / "image00000.jpg")
    history = root / "history.json"
    history.write_text(json.dumps([{"samples": n, "val_nme": 5 / n} for n in (1, 2, 3)]))
    result = CliRunner().invoke(
        cli,
        ["benchmark", "--dataset", str(data), "--engine", "edge", "--engine",
         str(PORTRAIT.with_name("edge.onnx")), "--reference", "torch", "--rounds", "12",
         "--report", str(root / "out"), "--json", str(root / "a.json"),
         "--history", str(history), "--peers", str(PEERS)],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return root, result


def test_what_the_document_says(report):
    root, result = report
    document = json.loads((root / "a.json").read_text())
    assert document == json.loads((root / "out" / "report.json").read_text())
    assert document["schema"] == 2
    assert list(document["unreadable"]) == ["image00003"]
    assert "image00003: left out, cannot be read" in result.stderr
    rows = document["engines"]
    assert len(rows) == 3
    edge, reference = rows["edge"], rows["reference: torch"]
    assert reference["reference"]
    assert edge["labels"]["original"]["mean"] == pytest.approx(
        reference["labels"]["original"]["mean"], abs=1e-3
    )
    assert edge["labels"]["original"]["counts"]["yaw"] == [2, 1, 1]
    assert edge["deviation_px"]["max"] < 0.01
    assert reference["deviation_px"]["max"] == 0
    assert edge["latency_ms"]["n"] == 12
    assert set(edge["stages_ms"]) == {
        "detect", "crop", "network", "landmarks", "draw", "total",
    }  # fmt: skip
    assert edge["stages_ms"]["detect"]["n"] == 1  # noise shows the detector no face
    assert set(edge["batch_ms"]) == {"1", "2", "4", "8", "16"}
    assert edge["cold_start"]["memory_mb"] > 1
    assert edge["gpu_compute_ms"] is None
    assert 0 < edge["jitter_percent"] < 50
    assert edge["megabytes"] == pytest.approx(12.9, abs=0.5)


def test_the_page_needs_nothing_else(report):
    root, _ = report
    page = (root / "out" / "report.html").read_text()
    assert "default-src 'none'" in page
    # Namespaces name addresses that no browser asks for.
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)([^"')\s>]+)""", page)
    assert links == []
    assert page.count("<svg") == 11
    assert page.count("data:image/jpeg") == 2
    assert "image00003" in page
    assert "<figcaption>Beside other methods</figcaption><svg" in page
    assert "<td>NME, original labels, yaw 30 to 60, %</td>" in page
    text = (root / "out" / "report.md").read_text()
    assert "| edge | fp32 |" in text
    assert "cannot be read" in text
    assert re.search(r"## Beside other methods.*\n\n\|  \| edge \| FaceMesh \|", text)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_opens_in_a_browser(report, tmp_path, width):
    root, _ = report
    page = Browser(tmp_path, width, 900)
    try:
        page.open((root / "out" / "report.html").as_uri())
        page.until("document.readyState === 'complete' && !!document.querySelector('figure')")
        assert page.ask("document.querySelectorAll('figure').length") == 13
        # The page's policy allows no request at all: one that was tried is an error.
        assert page.errors == []
        assert [r for r in page.requests if not r.startswith(("file:", "data:"))] == []
    finally:
        page.close()


def test_a_second_run_agrees_and_is_no_regression(report, run, tmp_path):
    root, _ = report
    code, out, err = run(
        "benchmark", "--dataset", root / "set", "--reference", "torch",
        "--json", tmp_path / "b.json", "--baseline", root / "a.json",
    )  # fmt: skip
    assert code == 0, err
    before, after = (json.loads(p.read_text()) for p in (root / "a.json", tmp_path / "b.json"))
    for key in ("labels", "nme_3d", "pose_mae", "per_face"):
        assert before["engines"]["edge"][key] == after["engines"]["edge"][key]
    code, out, err = run("compare", root / "a.json", tmp_path / "b.json")
    assert code == 0
    assert "NME original, mean of all" in out


@pytest.mark.parametrize(
    ("change", "options", "code", "message"),
    [
        (lambda d: None, [], 0, ""),
        (lambda d: worse(d, 0.03), [], 1, "worse than .*NME original, mean of all"),
        (lambda d: worse(d, 0.03), ["--fail-above", "0.05"], 0, ""),
        (lambda d: worse(d, -1), [], 0, ""),
        (lambda d: d["engines"]["edge"]["missed"].append("x"), [], 1, "faces missed"),
        (lambda d: slower(d), [], 0, ""),
        (lambda d: slower(d), ["--fail-slower", "1.5"], 1, "p90, ms"),
        (lambda d: d["faces"].pop("image00000"), [], 4, "5 faces in one, 4 in the other"),
        (lambda d: d["settings"].update(crop="detector"), [], 4, "crop is gt in one"),
        (lambda d: d.update(engines={}), [], 4, "no engine in common"),
        (lambda d: d.update(schema=1), [], 4, "schema 1, not 2"),
    ],
)
def test_compare(report, run, tmp_path, change, options, code, message):
    root, _ = report
    document = json.loads((root / "a.json").read_text())
    change(document)
    (tmp_path / "b.json").write_text(json.dumps(document))
    found, _, err = run("compare", root / "a.json", tmp_path / "b.json", *options)
    assert found == code, err
    assert re.search(message, err)


def worse(document, points):
    document["engines"]["edge"]["labels"]["original"]["mean"] += points


def slower(document):
    document["engines"]["edge"]["latency_ms"]["p90"] *= 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataset", "{}/empty"], 4, r"no NAME.jpg with NAME.mat .*\(1 .txt found\)"),
        (["--dataset", "{}/none"], 4, "no folder found"),
        (["--dataset", "{}/a.json"], 4, "neither a folder nor a whole zip"),
        (["--labels", "human"], 2, "--labels human"),
        (["--reannotated", "{}/empty"], 4, "another set"),
        (["--baseline", "{}/set/reannotated.npz"], 4, "not a valid benchmark: "),
        (["--peers", "{}/a.json"], 4, "a.json: not a valid record of peers: "),
        (["--peers", "{}/none.json"], 4, "none.json"),
        (["--report", "{}/a.json"], 4, "is a file, the report needs a folder"),
        (["--reference", "{}/none.pth"], 4, "no such model file"),
        (["--report", "{}/r", "--rounds", "0", "--history", "{}/a.json"], 4, "not a training run"),
        (["--report", "{}/r", "--rounds", "0", "--sensitivity", "{}/a.json"], 4, "not a PNG"),
    ],
)
def test_bad_input_is_one_line(report, run, arguments, code, message):
    root, _ = report
    (root / "empty").mkdir(exist_ok=True)
    (root / "empty" / "x.txt").touch()
    arguments = [a.format(root) for a in arguments]
    if "--dataset" not in arguments:
        arguments += ["--dataset", root / "set"]
    found, _, err = run("benchmark", *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert found == code, err
    assert len(lines) == 1
    assert re.search(message, lines[0]), err
    assert "Traceback" not in err


def test_no_face_at_all_is_an_error(run, tmp_path):
    pytest.importorskip("mediapipe")
    data = write_aflw2000(tmp_path / "set", 2)
    code, _, err = run("benchmark", "--dataset", data, "--crop", "detector")
    assert code == 4
    assert "no face was found in any of 2 photos" in err


@pytest.mark.slow
def test_the_original_s_generator_works_the_same_way(run, tmp_path):
    checkpoint = real_data("reference/img2pos-checkpoint/ckpt_epoch_180.pth")
    code, _, err = run(
        "benchmark", "--dataset", real_data("aflw2000-3d"), "--limit", "4", "--engine", checkpoint,
        "--reference", checkpoint, "--report", tmp_path, "--rounds", "5",
    )  # fmt: skip
    assert code == 0, err
    row = json.loads((tmp_path / "report.json").read_text())["engines"][str(checkpoint)]
    assert row["engine"]["layout"] == "prnet"
    assert row["threads_ms"] != {}


def test_ticks_of_times_are_plain_numbers():
    pytest.importorskip("matplotlib", reason="pip install 'posgan-edge[benchmark]'")
    from posgan_edge.evaluation.report.plots import latency_histograms

    svg = latency_histograms({"a": np.full(20, 3.2), "b": np.linspace(55, 1305, 20)})
    ticks = re.findall(r">([0-9.e+]+)</text>", svg)
    assert {"3.2", "62"} & set(ticks)
    assert not [tick for tick in ticks if "e" in tick]
