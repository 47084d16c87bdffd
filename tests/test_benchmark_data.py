"""The forms of data set and re-annotation, and the meters of the benchmark."""

import struct
import sys
import time
import zipfile

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from posgan_edge import load_layout
from posgan_edge.errors import BadInput
from posgan_edge.evaluation.aflw2000 import load_aflw2000, open_dataset
from posgan_edge.evaluation.latency import P99_SAMPLES, Latency, Ratio
from posgan_edge.evaluation.metrics import area_under_curve, bin_of, cumulative, failure_rate
from posgan_edge.evaluation.power import measure_energy, tegra_watts
from posgan_edge.evaluation.reannotation import load_reannotation, read_torch7
from posgan_edge.timing import take_turns
from tests.helpers.data import smooth_map, write_aflw2000
from tests.helpers.there import there

NAMES = ["image00000", "image00001"]
POINTS = np.random.default_rng(0).uniform(100, 300, (2, 68, 2)).astype(np.float32)


def torch7(tensor, kind="Float", name="Tensor", versioned=True):
    """A tensor as Torch7 writes it: type, index, class, sizes, strides, offset, storage."""

    def text(value):
        return struct.pack("<i", len(value)) + value.encode()

    def opened(index, label):
        version = text("V 1") if versioned else b""
        return struct.pack("<ii", 4, index) + version + text(label)

    strides = [s // tensor.itemsize for s in tensor.strides]
    count = tensor.ndim
    head = opened(1, f"torch.{kind}{name}") + struct.pack(f"<i{count}q", count, *tensor.shape)
    head += struct.pack(f"<{count}qq", *strides, 1)
    return (
        head
        + opened(2, f"torch.{kind}Storage")
        + struct.pack("<q", tensor.size)
        + (tensor.ravel("K").tobytes())
    )


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(("kind", "dtype"), [("Float", "<f4"), ("Double", "<f8")])
def test_torch7_tensors_are_read(tmp_path, kind, dtype, versioned):
    values = POINTS[0].astype(dtype)
    for number, tensor in enumerate((values, np.asfortranarray(values), values[0])):
        path = tmp_path / f"{number}.t7"
        path.write_bytes(torch7(tensor, kind, versioned=versioned))
        np.testing.assert_array_equal(read_torch7(path), tensor)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unpack"),
        (struct.pack("<ii", 3, 1), "type 3"),
        (torch7(POINTS[0], name="Storage"), "holds a torch.FloatStorage"),
        (torch7(POINTS[0], kind="Int"), "not floats"),
        (torch7(POINTS[0])[:-8], "cut short"),
    ],
)
def test_other_torch7_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.t7"
    path.write_bytes(content)
    with pytest.raises((ValueError, struct.error), match=message):
        read_torch7(path)


@pytest.mark.parametrize("form", ["npz", "npy", "npy, xy first", "npy, with z", "t7"])
def test_every_form_of_the_re_annotation_says_the_same(tmp_path, form):
    path = tmp_path / "reannotated"
    if form == "npz":
        path = path.with_suffix(".npz")
        np.savez(path, name=np.array(NAMES), pts68=POINTS.transpose(0, 2, 1))
    elif form == "t7":
        path.mkdir()
        for name, points in zip(NAMES, POINTS, strict=True):
            (path / f"{name}.t7").write_bytes(torch7(points))
    else:
        path = path.with_suffix(".npy")
        points = np.concatenate([POINTS, POINTS[..., :1]], -1) if "z" in form else POINTS
        np.save(path, points.transpose(0, 2, 1) if "first" in form else points)
    found = load_reannotation(path, NAMES)
    assert list(found) == NAMES
    for name, points in zip(NAMES, POINTS, strict=True):
        assert found[name] == pytest.approx(points - 0.5)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.npz", lambda p: np.savez(p, name=["other"], pts68=POINTS[:1]), "another set"),
        ("a.npz", lambda p: np.savez(p, name=NAMES), "not a re-annotation"),
        ("a.npy", lambda p: np.save(p, POINTS[:1]), "1 label sets for 2 photos"),
        ("a.npy", lambda p: np.save(p, POINTS[:, :60]), r"shape \(60, 2\)"),
        ("a.npy", lambda p: p.write_bytes(b"x"), "not a re-annotation"),
        ("a.npy", lambda p: np.save(p, np.array(-1)), "not a re-annotation"),
        ("a.npy", lambda p: np.save(p, POINTS * np.nan), "not finite"),
        ("a.npy", lambda p: np.save(p, POINTS * 1e300), "pixels away"),
        ("a.npy", lambda p: np.save(p, POINTS.astype(str)), "landmarks is <U"),
        ("a.npz", lambda p: np.savez(p, name=np.array(3), pts68=POINTS), "not a re-annotation"),
        ("a.npz", lambda p: np.savez(p, name=np.arange(2), pts68=POINTS), "not a re-annotation"),
        (
            "a.npz",
            lambda p: np.savez(p, name=NAMES, pts68=np.array([None, 1])),
            "not a re-annotation",
        ),
        ("a", lambda p: p.mkdir(), "another set"),
    ],
)
def test_a_re_annotation_that_does_not_match(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(BadInput, match=message):
        load_reannotation(tmp_path / name, NAMES)


def test_a_zip_is_the_folder(tmp_path):
    folder = write_aflw2000(tmp_path / "set", 3)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"AFLW2000/{path.name}")
        archive.writestr("../evil.txt", "x")
    with open_dataset(tmp_path / "set.zip") as opened:
        found = load_aflw2000(opened)
        assert [f.name for f in found] == [f.name for f in load_aflw2000(folder)]
        assert (found[1].image() == load_aflw2000(folder)[1].image()).all()
        assert found[1].reannotated is not None
    assert not opened.exists()
    (tmp_path / "no.zip").write_bytes(b"PK")
    with (
        pytest.raises(BadInput, match="neither a folder nor a whole zip"),
        open_dataset(tmp_path / "no.zip"),
    ):
        pass


def write_cropped(folder, offset=0.0):
    """A face in the original's pre-cropped form."""
    rng = np.random.default_rng(0)
    position_map = smooth_map(256).transpose(1, 2, 0) * 256 - 0.5
    points = load_layout("prnet").landmarks(position_map.transpose(2, 0, 1).copy()) + offset
    (folder / "f1").mkdir(parents=True)
    photo = rng.integers(0, 256, (256, 256, 3), np.uint8)
    cv2.imwrite(str(folder / "f1" / "f1_cropped.jpg"), photo)
    np.save(folder / "f1" / "f1_cropped_uv_posmap.npy", position_map.astype(np.float32))
    savemat(folder / "f1" / "f1_bbox_info.mat", {"Bbox": np.eye(2), "Kpt": points})
    return points


def test_the_original_s_cropped_folder(tmp_path):
    points = write_cropped(tmp_path)
    (face,) = load_aflw2000(tmp_path)
    assert face.name == "f1"
    assert face.original[:, :2] == pytest.approx(points[:, :2] + 0.5, abs=1e-3)
    assert (face.crop.center_x, face.crop.center_y, face.crop.side) == (128, 128, 256)
    write_cropped(tmp_path / "other", offset=90)
    with pytest.raises(BadInput, match="not in the pixels of the crop"):
        load_aflw2000(tmp_path / "other")


def test_bins_of_the_whole_set():
    yaw = np.concatenate([np.linspace(-30, 30, 1312), np.full(383, -45.0), np.full(305, 75.0)])
    assert np.bincount(bin_of(yaw)).tolist() == [1312, 383, 305]


@pytest.mark.parametrize(
    ("errors", "missed", "area", "failed"),
    [
        ([0, 0], 0, 1.0, 0.0),
        ([5, 5], 0, 0.5, 0.0),
        ([10, 20], 0, 0.0, 0.5),
        ([0, 5], 2, 0.375, 0.5),
        ([], 3, 0.0, 1.0),
    ],
)
def test_area_under_the_curve_and_failures(errors, missed, area, failed):
    assert area_under_curve(np.array(errors, float), missed) == pytest.approx(area)
    assert failure_rate(np.array(errors, float), missed) == pytest.approx(failed)
    ordered, share = cumulative(np.array(errors, float), missed)
    assert (np.diff(ordered) >= 0).all()
    assert share.tolist() == [(i + 1) / (len(errors) + missed) for i in range(len(errors))]


def test_latency_figures():
    times = np.arange(1.0, 101.0)
    figures = Latency.of(times, 7)
    assert (figures.n, figures.warm_up, figures.min, figures.max) == (100, 7, 1.0, 100.0)
    assert (figures.median, figures.mean) == (50.5, 50.5)
    assert figures.p90 == pytest.approx(90.1)
    assert figures.p99 is None
    assert figures.unstable
    many = Latency.of(np.full(P99_SAMPLES, 3.0))
    assert (many.p99, many.variation, many.unstable) == (3.0, 0.0, False)


def test_ratio_and_its_interval():
    rng = np.random.default_rng(0)
    base = rng.normal(10, 0.5, 200)
    ratio = Ratio.of(2 * base, base)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    # Of the same distribution: the interval is narrow, and holds 1 nearly always.
    drawn = [Ratio.of(rng.normal(10, 0.5, 200), rng.normal(10, 0.5, 200)) for _ in range(60)]
    assert np.mean([r.low < 1 < r.high for r in drawn]) >= 0.8
    assert np.mean([r.high - r.low for r in drawn]) < 0.05


def test_the_interval_knows_that_a_machine_is_slow_for_a_while():
    rng = np.random.default_rng(0)
    noise = rng.normal(10, 0.5, 240)
    spells = noise + 2 * (np.arange(240) // 60 % 2)
    base = rng.normal(10, 0.5, 240)
    widths = [r.high - r.low for r in (Ratio.of(spells, base), Ratio.of(noise, base))]
    assert widths[0] > 3 * widths[1]


def test_calls_take_turns():
    log = []
    times = take_turns({n: lambda n=n: log.append(n) for n in "ab"}, 20, 3)  # type: ignore[misc]
    assert len(log) == 46
    assert all(set(log[i : i + 2]) == {"a", "b"} for i in range(0, 46, 2))
    assert {log[i] for i in range(0, 46, 2)} == {"a", "b"}
    assert [t.shape for t in times.values()] == [(20,), (20,)]


def test_energy_from_rapl(tmp_path):
    counters = []
    for number in range(2):
        counter = tmp_path / f"intel-rapl:{number}" / "energy_uj"
        counter.parent.mkdir()
        counter.write_text("1000000")
        counters.append(counter)
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        for counter in counters:
            counter.write_text(str(int(counter.read_text()) + 250_000))

    energy = there(measure_energy(call, 0.05, tmp_path))
    assert calls > 1
    assert energy.joules == pytest.approx(0.5)
    assert energy.source == "RAPL, CPU package"


@pytest.mark.parametrize("gpu", [False, True])
def test_energy_is_none_where_nothing_tells(tmp_path, monkeypatch, gpu):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert measure_energy(lambda: None, 0.01, tmp_path, gpu) is None


class Nvml:
    """``pynvml`` of a board that draws 100 W; its counter runs on by 2 J a call of ours."""

    def __init__(self, counter):
        self.counter, self.joules = counter, 0

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, device):  # noqa: N802
        if not self.counter:
            raise RuntimeError("not supported")
        return 1000 * self.joules

    def nvmlDeviceGetPowerUsage(self, device):  # noqa: N802
        return 100_000


@pytest.mark.parametrize("counter", [True, False])
def test_a_gpus_own_reading_is_taken_for_a_gpu_and_rapl_for_the_processor(
    tmp_path, monkeypatch, counter
):
    nvml = Nvml(counter)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    rapl = tmp_path / "intel-rapl:0"
    rapl.mkdir()
    (rapl / "energy_uj").write_text("0")

    def call():
        nvml.joules += 2
        time.sleep(0.02)

    found = there(measure_energy(call, 0.4, tmp_path, gpu=True))
    assert found.source == "NVML, GPU board"
    if counter:
        assert found.joules == pytest.approx(2)
    else:  # 100 W over at least 20 ms a call
        assert 1.9 < found.joules < 20
    assert there(measure_energy(call, 0.01, tmp_path)).source == "RAPL, CPU package"


def test_tegrastats_is_read_while_the_calls_go_on(tmp_path, monkeypatch):
    """It tells of 9 W during a call, and of 2 W between calls."""
    program, busy = tmp_path / "tegrastats", tmp_path / "busy"
    program.write_text(
        "#!/bin/sh\nwhile :; do\n"
        f"if [ -e {busy} ]; then echo VDD_IN 9000mW/9000mW; else echo VDD_IN 2000mW/2000mW; fi\n"
        "sleep 0.01\ndone\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def call():
        busy.touch()
        time.sleep(0.05)
        busy.unlink()

    found = there(measure_energy(call, 1.0, tmp_path, gpu=True))
    assert found.source == "tegrastats, VDD_IN"
    assert found.joules > 7 * 0.05


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        ("RAM 2/7 CPU [1%@729] VDD_IN 5123mW/5000mW VDD_CPU 720mW/700mW", 5.123),
        ("RAM 2/7 POM_5V_IN 2900/2900 POM_5V_GPU 40/40", 2.9),
        ("RAM 2/7", None),
    ],
)
def test_tegrastats(line, watts):
    assert tegra_watts(line) == watts
