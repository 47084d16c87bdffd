"""TensorRT engines on a GPU against PyTorch; run with ``pytest -m gpu`` where there is one."""

import numpy as np
import pytest

from posgan_edge import Crop, load_engine
from posgan_edge.evaluation.profile import gpu_clocks
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.images import read_image
from posgan_edge.system import gpu_here
from tests.helpers.data import PORTRAIT

pytestmark = pytest.mark.gpu
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    crops = [Crop(224 + dx, 132 + dy, 140, a) for dx, dy, a in rng.normal(0, 6, (8, 3))]
    return np.stack([extract_crop(read_image(PORTRAIT), c, 128) for c in crops])


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 5e-3)])
@pytest.mark.parametrize("target", MODULES)
def test_engine_equals_torch(run, tmp_path, images, target, precision, limit):
    pytest.importorskip(MODULES[target])
    cuda = pytest.importorskip("pycuda.driver", exc_type=ImportError)
    cuda.init()
    path = tmp_path / "edge.engine"
    arguments = ["build-engine", "--target", target, "--precision", precision, "--batch", "8"]
    code, _, err = run(*arguments, "--output", path)
    assert code == 0, err
    reference = load_engine(PORTRAIT.with_name("edge.safetensors"))
    engine = load_engine(path)
    for count in (1, 8, 3, 1):
        answer = engine.infer(images[:count])
        assert np.abs(answer - reference.infer(images[:count])).max() < limit
    assert "no CUDA graph" not in engine.describe()
    clocks = gpu_clocks(engine, 20)
    assert 0 < np.median(clocks["gpu_compute"]) < np.median(clocks["device_pipeline"]) < 50
    engine.close()


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_providers_of_onnx_runtime_equal_torch(images, provider):
    import onnxruntime

    from posgan_edge.engines.onnxruntime import PROVIDERS

    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {provider} provider")
    if not gpu_here()[0]:
        pytest.skip("no NVIDIA GPU is here")
    reference = load_engine(PORTRAIT.with_name("edge.safetensors"))
    with load_engine("edge", provider=provider) as engine:
        for count in (1, 8, 3, 1):
            off = engine.infer(images[:count]) - reference.infer(images[:count])
            assert np.abs(off).max() < 1e-3
