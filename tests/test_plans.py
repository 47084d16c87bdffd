"""TensorRT plans on stand-ins for TensorRT and pycuda: what is asked of them, what goes wrong."""

import numpy as np
import pytest

from posgan_edge import load_engine
from posgan_edge.errors import BadInput, MissingRuntime
from posgan_edge.evaluation.profile import gpu_clocks
from tests.helpers import device
from tests.helpers.plans import Driver, TensorRt, gpu, write_plan

IMAGES = np.random.default_rng(0).random((9, 3, 16, 16), np.float32)
RUNTIMES = pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "rtx"])


@RUNTIMES
def test_a_plan_runs_in_batches_each_from_a_graph_with_a_context_of_its_own(
    monkeypatch, tmp_path, rtx
):
    path = write_plan(tmp_path, rtx)
    with gpu(monkeypatch, tmp_path, rtx) as (trt, driver, kernels), load_engine(path) as engine:
        for count in (1, 4, 1, 3, 4, 1):
            assert np.array_equal(engine.infer(IMAGES[:count]), IMAGES[:count])
        assert np.array_equal(engine.infer_all(IMAGES), IMAGES)
        assert kernels.launches == 6 + 3
        assert "no CUDA graph" not in engine.describe()
        assert sorted(c.shape[0] for c in trt.contexts) == [1, 3, 4]
        memory = {context.memory for context in trt.contexts}
        assert len(memory) == 1  # shared
        assert memory.pop()[1] == 4096
        assert driver.flags == [1]  # non-blocking
        assert driver.depth == 0


def test_everything_is_freed_once(monkeypatch, tmp_path):
    with gpu(monkeypatch, tmp_path) as (_, driver, _):
        engine = load_engine(write_plan(tmp_path))
        engine.infer(IMAGES[:2])
        assert not any(m.freed for m in [*driver.allocated, *driver.pinned])
        engine.close()
        engine.close()
        assert all(m.freed for m in [*driver.allocated, *driver.pinned])
        assert (len(driver.allocated), len(driver.pinned)) == (3, 2)
        with pytest.raises(BadInput, match="is closed"):
            engine.infer(IMAGES[:1])


def test_without_kernels_the_work_is_launched_plainly_and_said(monkeypatch, tmp_path):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path, kernels=False), load_engine(path) as engine:
        assert np.array_equal(engine.infer(IMAGES[:2]), IMAGES[:2])
        assert engine.describe().endswith("no CUDA graph for batch [2]")


@pytest.mark.parametrize(
    ("rtx", "change"), [(False, "break_capture"), (True, "break_capture"), (True, "not_capturable")]
)
def test_what_cannot_be_captured_is_launched_plainly(monkeypatch, tmp_path, rtx, change):
    path = write_plan(tmp_path, rtx)
    with (
        gpu(monkeypatch, tmp_path, rtx, **{change: True}) as (_, _, kernels),
        load_engine(path) as engine,
    ):
        for _ in range(2):
            assert np.array_equal(engine.infer(IMAGES[:2]), IMAGES[:2])
        assert kernels.launches == 0
        assert engine.describe().endswith("no CUDA graph for batch [2]")


def test_rtx_compiles_kernels_at_once_and_keeps_them(monkeypatch, tmp_path):
    path = write_plan(tmp_path, rtx=True)
    for found in (b"", b"kernels of 2"):
        with gpu(monkeypatch, tmp_path, rtx=True) as (trt, _, _):
            with load_engine(path) as engine:
                engine.infer(IMAGES[:2])
            assert trt.specialised is TensorRt.DynamicShapesKernelSpecializationStrategy.EAGER
            assert trt.cache == found
    (kept,) = (tmp_path / "cache" / "posgan-edge" / "tensorrt-rtx").iterdir()
    assert kept.read_bytes() == b"kernels of 2"
    kept.write_bytes(b"of another GPU")
    with gpu(monkeypatch, tmp_path, rtx=True), load_engine(path) as engine:
        assert np.array_equal(engine.infer(IMAGES[:1]), IMAGES[:1])
    assert kept.read_bytes() == b"kernels of 1"


def test_a_cache_that_cannot_be_written_does_not_matter(monkeypatch, tmp_path):
    path = write_plan(tmp_path, rtx=True)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with gpu(monkeypatch, tmp_path, rtx=True), load_engine(path) as engine:
        assert np.array_equal(engine.infer(IMAGES[:1]), IMAGES[:1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan_fails": True}, "this GPU cannot run the plan"),
        ({"context_fails": True},
         "no execution context for a batch of 1: .*too little"),
        ({"types": {"image": "DataType.HALF", "position_map": "DataType.FLOAT"}},
         r"image is DataType\.HALF, not float32: rebuild"),
        ({"types": {"image": "DataType.FLOAT", "position_map": "DataType.HALF"}},
         r"position_map is DataType\.HALF, not float32"),
        ({"types": {"image": "DataType.FLOAT", "maps": "DataType.FLOAT"}},
         r"has inputs and outputs \['image', 'maps'\]"),
        ({"shapes": {"image": (-1, 3, 32, 32), "position_map": (-1, 3, 16, 16)}},
         r"image is \(-1, 3, 32, 32\), its manifest says \(4, 3, 16, 16\)"),
        ({"shapes": {"image": (1, 3, 16, 16), "position_map": (1, 3, 16, 16)}},
         r"image is \(1, 3, 16, 16\), its manifest says \(4, 3, 16, 16\)"),
    ],
)  # fmt: skip
def test_plans_that_do_not_fit_are_one_line_and_leave_nothing(
    monkeypatch, tmp_path, changes, message
):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path, **changes) as (_, driver, _):
        with pytest.raises(BadInput, match=message) as caught:
            load_engine(path)
        assert "\n" not in str(caught.value)
        assert all(m.freed for m in [*driver.allocated, *driver.pinned])
        assert driver.depth == 0


@pytest.mark.parametrize(
    "values",
    [{key: value} for key in ("batch", "input_size", "map_size")
     for value in (-1, 0, 257, 10**9, 10**18)],
    ids=str,
)  # fmt: skip
def test_manifests_with_senseless_sizes_are_one_line(monkeypatch, tmp_path, values):
    path = write_plan(tmp_path, **values)
    with gpu(monkeypatch, tmp_path) as (_, driver, _):
        with pytest.raises(BadInput, match=r"its manifest says|not a valid manifest: ") as caught:
            load_engine(path)
        assert "\n" not in str(caught.value)
        assert all(m.freed for m in [*driver.allocated, *driver.pinned])


@pytest.mark.parametrize("memory", [0, 12_288, 25_000])
def test_out_of_memory_is_one_line_and_frees_what_was_had(monkeypatch, tmp_path, memory):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path, driver=Driver(memory=memory)) as (_, driver, _):
        with pytest.raises(BadInput, match="the GPU has too little free memory: cuMem") as caught:
            load_engine(path)
        assert "\n" not in str(caught.value)
        assert all(m.freed for m in [*driver.allocated, *driver.pinned])


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        ({"init_fails": "cuInit failed: no CUDA-capable device is detected"},
         "no NVIDIA GPU can be used here, and TensorRT plans need one: cuInit failed"),
        ({"devices": 0}, "no NVIDIA GPU is here"),
    ],
)  # fmt: skip
def test_a_driver_without_a_gpu_is_one_line(monkeypatch, tmp_path, driver, message):
    path = write_plan(tmp_path)
    with (
        gpu(monkeypatch, tmp_path, driver=Driver(**driver)),
        pytest.raises(MissingRuntime, match=message) as caught,
    ):
        load_engine(path)
    assert "\n" not in str(caught.value)


def test_without_pycuda_one_command_is_named(monkeypatch, tmp_path):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path):
        monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
        with pytest.raises(
            MissingRuntime, match=r"checkout of posgan-edge, pip install \./cpp_ext"
        ):
            load_engine(path)


def test_a_refusal_is_one_line(monkeypatch, tmp_path):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path, refuse=True), load_engine(path) as engine:
        with pytest.raises(BadInput, match="TensorRT refused a batch of 2"):
            engine.infer(IMAGES[:2])
        assert np.isfinite(engine.info.batch)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "caffe"])
def test_a_plan_whose_manifest_names_another_runtime_is_refused(monkeypatch, tmp_path, runtime):
    path = write_plan(tmp_path, content=b"an ONNX file with another name", runtime=runtime)
    with (
        gpu(monkeypatch, tmp_path),
        pytest.raises(BadInput, match=f"its manifest says it was built for {runtime}"),
    ):
        load_engine(path)


def test_both_gpu_clocks_time_a_graph_each_with_a_context_of_its_own(monkeypatch, tmp_path):
    path = write_plan(tmp_path)
    with gpu(monkeypatch, tmp_path) as (trt, _, kernels), load_engine(path) as engine:
        clocks = gpu_clocks(engine, 5)
        assert {name: len(times) for name, times in clocks.items()} == {
            "gpu_compute": 5, "device_pipeline": 5,
        }  # fmt: skip
        assert kernels.launches == 1 + 2 * (1 + 5)  # one each is a warm-up
        first, second = trt.contexts  # of infer, and of gpu_compute
        assert (first.shape, first.memory) == (second.shape, second.memory)
        assert first.captured
        assert second.captured


def test_a_frame_read_on_the_device_frees_its_pinned_memory_and_waits_for_uploads(monkeypatch):
    pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
    from posgan_edge import Crop, Frame, load_layout
    from posgan_edge.faces.readers.device import DeviceReader
    from posgan_edge.images import read_image
    from tests.helpers.data import PORTRAIT

    engine = device.StandIn(load_engine("edge"), 1)
    reader = DeviceReader(engine, load_layout("ict"))
    assert engine.cuda.waited == 2
    picture = read_image(PORTRAIT)
    for image in (picture, np.ascontiguousarray(picture[:300])):
        reader.read(Frame(image), [Crop(224, 132, 140, 0)])
    reader.close()
    assert [p.freed for p in engine.cuda.pinned] == [True] * 4
