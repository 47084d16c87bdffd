"""The kernels on a GPU against their host path. Under compute-sanitizer:

compute-sanitizer --error-exitcode 1 python -m pytest -m gpu tests/test_kernels_gpu.py
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from posgan_edge import Crop, load_layout
from tests.helpers.poses import assert_pose
from tests.test_kernels import matrices

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not kernels.with_cuda, reason="kernels built without CUDA"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device"),
]


@pytest.fixture
def cuda():
    from posgan_edge_kernels import cuda

    return cuda


@pytest.fixture(params=["default", "other", "graph"])
def launch(request, cuda):
    """Runs work that takes a stream handle: on the default stream, another, or captured."""

    def run(work):
        if request.param == "default":
            work(0)
        else:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.default_stream())
            if request.param == "graph":
                graph = cuda.Graph(stream.cuda_stream, lambda: work(stream.cuda_stream))
                graph.launch()
            else:
                work(stream.cuda_stream)
        torch.cuda.synchronize()

    return run


def device(values):
    return torch.from_numpy(np.ascontiguousarray(values)).cuda()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("faces", "height", "width"), [(1, 128, 128), (8, 256, 256), (3, 7, 33)])
def test_landmarks(cuda, launch, dtype, faces, height, width):
    rng = np.random.default_rng(0)
    maps = rng.random((faces, 3, height, width)).astype(dtype)
    maps[0, 1, 2, 3] = np.nan
    uv = rng.uniform(-0.1, 1.1, (400, 2)).astype(np.float32)
    transforms = matrices(*(Crop(300 + i, 200, 150 + i, 30 * i) for i in range(faces)))
    points, facing = torch.zeros(faces, 300, 3).cuda(), torch.zeros(faces, 300).cuda()
    rest = torch.zeros(faces, 100, 3).cuda()
    inputs = [device(v) for v in (maps, uv, transforms)]
    launch(
        lambda stream: cuda.extract_landmarks(
            maps=inputs[0].data_ptr(),
            uv=inputs[1].data_ptr(),
            transforms=inputs[2].data_ptr(),
            points=points.data_ptr(),
            facing=facing.data_ptr(),
            rest=rest.data_ptr(),
            shape=(faces, height, width),
            count=300,
            rest_count=100,
            dtype=dtype,
            stream=stream,
        )
    )
    expected = kernels.extract_landmarks(maps, uv, transforms, facing=True)
    found = np.concatenate([points.cpu().numpy(), rest.cpu().numpy()], 1)
    np.testing.assert_allclose(found, expected[0], atol=1e-4)
    np.testing.assert_allclose(facing.cpu().numpy(), expected[1][:, :300], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("side", [40.0, 181.0, 900.0])
def test_crop(cuda, launch, dtype, side):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (240, 328, 3), np.uint8)
    transforms = matrices(*(Crop(160 + 40 * i, 120, side, 50 * i) for i in range(4)))
    out = torch.zeros(4, 3, 64, 64, dtype=getattr(torch, dtype)).cuda()
    inputs = [device(frame), device(transforms)]
    launch(
        lambda stream: cuda.crop_normalize(
            frame=inputs[0].data_ptr(),
            transforms=inputs[1].data_ptr(),
            out=out.data_ptr(),
            shape=(240, 328, 984),
            faces=4,
            size=64,
            dtype=dtype,
            border=(1, 2, 3),
            stream=stream,
        )
    )
    expected = kernels.crop_normalize(frame, transforms, 64, dtype, (1, 2, 3))
    limit = {"float32": 1e-5, "float16": 1e-3}[dtype]
    np.testing.assert_allclose(out.cpu().numpy(), expected, atol=limit)


def mapped(values):
    """In pinned memory, which has the same address on the device."""
    return torch.from_numpy(np.ascontiguousarray(values)).pin_memory()


@pytest.mark.parametrize("move", [device, mapped])
def test_one_graph_crops_frames_at_any_place_and_of_any_size(cuda, move):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((240, 328), (90, 61))]
    here = [move(frame) for frame in frames]
    place, transforms = mapped(np.zeros(4, np.int64)), mapped(np.zeros((2, 2, 3), np.float32))
    out, stream = torch.zeros(2, 3, 64, 64).cuda(), torch.cuda.Stream()

    def work():
        cuda.crop_normalize(
            place=place.data_ptr(), transforms=transforms.data_ptr(), out=out.data_ptr(),
            faces=2, size=64, stream=stream.cuda_stream,
        )  # fmt: skip

    torch.cuda.synchronize()
    graph = cuda.Graph(stream.cuda_stream, work)
    for frame, pixels in zip(frames, here, strict=True):
        height, width = frame.shape[:2]
        asked = matrices(Crop(width / 2, height / 2, 50, 20), Crop(width / 3, height / 2, 181, 70))
        place[:] = torch.tensor([pixels.data_ptr(), 3 * width, height, width])
        transforms[:] = torch.from_numpy(asked)
        graph.launch()
        stream.synchronize()
        expected = kernels.crop_normalize(frame, asked, 64)
        np.testing.assert_allclose(out.cpu().numpy(), expected, atol=1e-5)


def test_results_in_pinned_memory(cuda, launch):
    rng = np.random.default_rng(0)
    maps = rng.random((3, 3, 128, 128), np.float32)
    uv = rng.uniform(0, 1, (68 + 100, 2)).astype(np.float32)
    transforms = matrices(*(Crop(300 + i, 200, 150 + i, 30 * i) for i in range(3)))
    points, facing = mapped(np.zeros((3, 68, 3), np.float32)), mapped(np.zeros((3, 68), np.float32))
    rest = torch.zeros(3, 100, 3).cuda()
    inputs = [device(maps), device(uv), mapped(transforms)]
    common = {
        "maps": inputs[0].data_ptr(), "uv": inputs[1].data_ptr(), "points": points.data_ptr(),
        "transforms": inputs[2].data_ptr(), "facing": facing.data_ptr(), "rest": rest.data_ptr(),
        "shape": (3, 128, 128), "count": 68, "rest_count": 100,
    }  # fmt: skip
    launch(lambda stream: cuda.extract_landmarks(**common, stream=stream))
    expected, cosines = kernels.extract_landmarks(maps, uv[:68], transforms, True)
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(facing.numpy(), cosines, atol=1e-5)


@pytest.mark.parametrize("full_range", [False, True])
def test_nv12(cuda, launch, full_range):
    rng = np.random.default_rng(0)
    luma, chroma = (
        rng.integers(0, 256, (61, 80), np.uint8),
        rng.integers(0, 256, (31, 40, 2), np.uint8),
    )
    transforms, out = matrices(Crop(40, 30, 50, 20)), torch.zeros(1, 3, 32, 32).cuda()
    inputs = [device(v) for v in (luma, chroma, transforms)]
    launch(
        lambda stream: cuda.crop_normalize_nv12(
            luma=inputs[0].data_ptr(),
            chroma=inputs[1].data_ptr(),
            out=out.data_ptr(),
            transforms=inputs[2].data_ptr(),
            shape=(61, 80, 80),
            chroma_pitch=80,
            faces=1,
            size=32,
            matrix="bt709",
            full_range=full_range,
            stream=stream,
        )
    )
    expected = kernels.crop_normalize_nv12(
        luma, chroma, transforms, 32, matrix="bt709", full_range=full_range
    )
    np.testing.assert_allclose(out.cpu().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [792, 860])
def test_pose(cuda, launch, stride):
    mean = load_layout("ict").mean_points
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(8, stride, 3)) * 50).astype(np.float32)
    points[:, : len(mean)] += 900 * mean
    out = torch.zeros(8, 14).cuda()
    inputs = [device(points), device(mean)]
    launch(
        lambda stream: cuda.pose_fit(
            points=inputs[0].data_ptr(),
            mean=inputs[1].data_ptr(),
            out=out.data_ptr(),
            faces=8,
            count=len(mean),
            stride=stride,
            stream=stream,
        )
    )
    expected = kernels.pose_fit(np.ascontiguousarray(points[:, : len(mean)]), mean)
    assert_pose(out.cpu().numpy(), expected)


def test_bad_pointers_and_streams_are_named(cuda):
    maps, uv = torch.zeros(1, 3, 64, 64).cuda(), torch.zeros(68, 2).cuda()
    transforms, points = torch.eye(3)[:2].cuda(), torch.zeros(1, 68, 3).cuda()
    good = {
        "maps": maps.data_ptr(), "uv": uv.data_ptr(), "transforms": transforms.data_ptr(),
        "points": points.data_ptr(), "shape": (1, 64, 64), "count": 68,
    }  # fmt: skip
    cuda.extract_landmarks(**good)
    host = np.zeros(1 << 20, np.float32)
    stream = torch.cuda.Stream()
    for change, message in (
        ({"maps": 0}, "maps: is a null pointer"),
        ({"uv": uv.data_ptr() + 1}, "uv: must be aligned"),
        ({"points": host.ctypes.data}, "points: is not memory"),
        ({"shape": (1, 16384, 16384)}, "maps: needs"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message):
            cuda.extract_landmarks(**{**good, **change})
    cuda.extract_landmarks(**good, stream=stream.cuda_stream)
    transforms.zero_()
    cuda.extract_landmarks(**good)
    torch.cuda.synchronize()
    assert torch.isnan(points).all()


#: CUDA may end a process that gives it such a handle, so each has a process of its own.
GARBAGE = """
import sys
import numpy as np
import torch
from posgan_edge_kernels import cuda

maps, uv = torch.zeros(1, 3, 64, 64).cuda(), torch.zeros(68, 2).cuda()
transforms, points = torch.eye(3)[:2].cuda(), torch.zeros(1, 68, 3).cuda()
host = np.zeros(1 << 20, np.float32)
try:
    cuda.extract_landmarks(
        maps=maps.data_ptr(), uv=uv.data_ptr(), transforms=transforms.data_ptr(),
        points=points.data_ptr(), shape=(1, 64, 64), count=68,
        stream=host.ctypes.data if sys.argv[1] == "host" else int(sys.argv[1]),
    )
except (ValueError, RuntimeError) as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("handle", "message"), [("12345", "stream: is not a stream"), ("host", "stream: ")]
)
def test_garbage_for_a_stream_is_named(handle, message):
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE, handle], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, message in done.stdout) == (0, True), done.stderr


def test_what_cannot_be_captured_leaves_the_stream_usable(cuda):
    stream = torch.cuda.Stream()

    def fail():
        raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        cuda.Graph(stream.cuda_stream, fail)
    with torch.cuda.stream(stream):
        assert torch.ones(3, device="cuda").sum().item() == 3
    graph = cuda.Graph(stream.cuda_stream, lambda: None)
    graph.close()
    with pytest.raises(ValueError, match="graph: is closed"):
        graph.launch()
