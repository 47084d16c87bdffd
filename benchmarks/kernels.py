"""The kernels of cpp_ext compared with numpy, OpenCV and, on a GPU, PyTorch and memory bandwidth.

    python benchmarks/kernels.py [--rounds 400] [--dataset AFLW2000_DIR] [--json F]

On the host: one thread, calls in turns, medians and their ratios with a bootstrap interval. On a
GPU (where PyTorch sees one): kernel times from CUDA events over 200 launches in one graph. With
--dataset, the NME of the shipped network on crops cut by the kernel and by the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import posgan_edge_kernels as kernels
from numpy.typing import NDArray

from posgan_edge import Crop, load_layout
from posgan_edge.evaluation.latency import Latency, Ratio
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.geometry.pose import fit_robust
from posgan_edge.system import machine_block
from posgan_edge.timing import take_turns

SIDES = (100.0, 128.0, 181.0, 256.0, 400.0)
SIZE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, Any] = {"machine": machine_block(), "host": host(options.rounds)}
    result["gpu"] = gpu() or "not measured on a GPU"
    if options.dataset:
        result["nme"] = nme(options.dataset)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def host(rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    layout = load_layout("ict")
    maps = rng.random((1, 3, 128, 128), np.float32)
    crop = Crop(640, 360, 181, 12)
    matrix = crop.matrix[None].astype(np.float32)
    points = rng.random((1, len(layout.mean_points), 3), np.float32)
    found = {
        "extract_landmarks, 68 points": compared(
            lambda: kernels.extract_landmarks(maps, layout.landmark_uv, matrix),
            {"numpy": lambda: crop.to_frame(layout.landmarks(maps)[0])},
            rounds,
        ),
        f"pose_fit, {len(layout.mean_points)} points": compared(
            lambda: kernels.pose_fit(points, layout.mean_points),
            {"numpy": lambda: fit_robust(layout.mean_points, points[0], 4)},
            rounds,
        ),
    }
    frame = cv2.GaussianBlur(rng.integers(0, 256, (720, 1280, 3), np.uint8), (0, 0), 2)
    for side in SIDES:
        crop = Crop(640, 360, side, 12)
        found[f"crop_normalize, {side:g} px to {SIZE}"] = compared(
            cropping(frame, crop),
            {
                "warpAffine and numpy, no area averaging": warping(frame, crop),
                "the package (blur, warpAffine, numpy)": packaged(frame, crop),
            },
            rounds,
        )
    return found


def cropping(frame: NDArray[Any], crop: Crop) -> Callable[[], Any]:
    matrix = crop.matrix[None].astype(np.float32)
    return lambda: kernels.crop_normalize(frame, matrix, SIZE)


def packaged(frame: NDArray[Any], crop: Crop) -> Callable[[], Any]:
    return lambda: extract_crop(frame, crop, SIZE)


def warping(frame: NDArray[Any], crop: Crop) -> Callable[[], Any]:
    matrix = np.column_stack([crop.matrix[:, :2] / SIZE, crop.matrix[:, 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def warp() -> NDArray[Any]:
        patch = cv2.warpAffine(frame, matrix, (SIZE, SIZE), flags=flags)
        rgb = patch[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
        return np.multiply(rgb, 1 / 255, out=rgb)

    return warp


def compared(
    ours: Callable[[], Any], others: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, Any]:
    times = take_turns({"kernel": ours, **others}, rounds, 20)
    return {
        "microseconds": {n: 1e3 * Latency.of(t).median for n, t in times.items()},
        "kernel over": {n: asdict(Ratio.of(times["kernel"], times[n])) for n in others},
    }


def nme(dataset: Path) -> dict[str, Any]:
    from posgan_edge import load_engine
    from posgan_edge.evaluation import scoring
    from posgan_edge.evaluation.aflw2000 import load_aflw2000

    faces, engine = load_aflw2000(dataset), load_engine("edge")

    def by_kernel(frame: NDArray[Any], crop: Crop, size: int) -> NDArray[Any]:
        image: NDArray[Any] = kernels.crop_normalize(
            frame, crop.matrix[None].astype(np.float32), size
        )[0]
        return image

    found = {}
    for name, cut in (("package", extract_crop), ("kernel", by_kernel)):
        predictions = scoring.predict_from_labels(engine, faces, cut=cut)
        scores = scoring.score(faces, list(predictions))
        found[name] = {k: v.mean for k, v in scores.labels.items()}
    return found


def gpu() -> dict[str, Any] | None:
    """Returns kernel times on the first GPU; None without PyTorch's CUDA build or a device."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available() or not kernels.with_cuda:
        return None
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(0), "copy_gb_s": _bandwidth()}
    for batch in (1, 8):
        for dtype in (torch.float32, torch.float16):
            for size in (128, 256):
                name = f"batch {batch}, {str(dtype).split('.')[1]}, {size}x{size}"
                found[name] = _landmarks(batch, dtype, size, found["copy_gb_s"])
    found["crop_normalize, 1280x720, batch 8"] = _crop(8)
    found["crop_normalize_nv12, 1280x720, batch 8"] = _crop(8, nv12=True)
    found["landmarks and points of the pose, batch 8"] = _both(8)
    found["pose_fit, batch 8"] = _pose(8)
    return found


def _timed(work: Callable[[int], None], launches: int = 200, rounds: int = 30) -> float:
    """Returns microseconds per launch: the minimum over rounds of a graph with many launches."""
    import torch
    from posgan_edge_kernels import cuda

    stream = torch.cuda.Stream()
    handle = stream.cuda_stream
    with torch.cuda.stream(stream):
        work(handle)
        stream.synchronize()

        def launch() -> None:
            for _ in range(launches):
                work(handle)

        graph = cuda.Graph(handle, launch)
        best = float("inf")
        for _ in range(rounds):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(stream)
            graph.launch()
            end.record(stream)
            stream.synchronize()
            best = min(best, start.elapsed_time(end) * 1e3 / launches)
    return best


def _bandwidth() -> float:
    """Returns the bandwidth of a device copy of 256 MiB (bytes read and written), in GB a
    second."""
    import torch

    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) / 1e3)
    return 2 * source.numel() / best / 1e9


def _transforms(batch: int) -> Any:
    import torch

    crops = [Crop(640 + 9 * i, 360, 181, 12 * i) for i in range(batch)]
    matrices = np.stack([c.matrix for c in crops]).astype(np.float32)
    return torch.from_numpy(matrices).cuda()


def _landmarks(batch: int, dtype: Any, size: int, bandwidth: float) -> dict[str, float]:
    import torch
    from posgan_edge_kernels import cuda

    layout = load_layout("ict")
    maps = torch.rand(batch, 3, size, size, device="cuda").to(dtype)
    uv = torch.from_numpy(layout.landmark_uv).cuda()
    transforms, points = _transforms(batch), torch.empty(batch, 68, 3, device="cuda")
    grid = (uv * 2 - 1)[None, None].expand(batch, -1, -1, -1).to(dtype).contiguous()

    def ours(stream: int) -> None:
        cuda.extract_landmarks(
            maps=maps.data_ptr(), uv=uv.data_ptr(), transforms=transforms.data_ptr(),
            points=points.data_ptr(), shape=(batch, size, size), count=68,
            dtype=str(dtype).split(".")[1], stream=stream,
        )  # fmt: skip

    def theirs(stream: int) -> None:
        read = torch.nn.functional.grid_sample(maps, grid, "bilinear", "border", False)[:, :, 0]
        flat = torch.cat([read[:, :2].float(), torch.ones_like(read[:, :1]).float()], 1)
        torch.cat([(transforms @ flat), read[:, 2:].float()], 1).transpose(1, 2)

    def downloaded() -> None:
        host_maps = maps.cpu().numpy()
        for crop, xyz in zip(crops, host_maps, strict=True):
            crop.to_frame(layout.landmarks(xyz))

    def device_only() -> None:
        ours(torch.cuda.current_stream().cuda_stream)
        points.cpu()

    crops = [Crop(640 + 9 * i, 360, 181, 12 * i) for i in range(batch)]
    # Four taps of three planes, each in a sector of 32 bytes of its own; uv; points.
    moved = batch * 68 * (12 * 32 + 12) + 68 * 8
    times = take_turns({"kernel": device_only, "download": downloaded}, 200, 20)
    return {
        "kernel_us": _timed(ours),
        "memory_floor_us": moved / bandwidth / 1e3,
        "grid_sample_us": _timed(theirs),
        "end_to_end_us": 1e3 * Latency.of(times["kernel"]).median,
        "download_then_numpy_us": 1e3 * Latency.of(times["download"]).median,
    }


def _crop(batch: int, nv12: bool = False) -> dict[str, float]:
    import torch
    from posgan_edge_kernels import cuda

    rows, width = (1080, 1280) if nv12 else (720, 3840)
    frame = torch.randint(0, 256, (rows, width), dtype=torch.uint8, device="cuda")
    transforms = _transforms(batch)
    out = torch.empty(batch, 3, SIZE, SIZE, device="cuda")
    common = {
        "transforms": transforms.data_ptr(), "out": out.data_ptr(), "faces": batch, "size": SIZE,
        "shape": (720, 1280, width),
    }  # fmt: skip

    def ours(stream: int) -> None:
        if nv12:
            cuda.crop_normalize_nv12(
                luma=frame.data_ptr(), chroma=frame[720:].data_ptr(), chroma_pitch=width,
                stream=stream, **common,
            )  # fmt: skip
        else:
            cuda.crop_normalize(frame=frame.data_ptr(), stream=stream, **common)

    return {"kernel_us": _timed(ours)}


def _both(batch: int) -> dict[str, float]:
    """Landmarks with facing, and the points of the pose: in one launch, and in two."""
    import torch
    from posgan_edge_kernels import cuda

    layout = load_layout("ict")
    count, rest_count = len(layout.landmark_uv), len(layout.mean_uv)
    uv = torch.from_numpy(np.concatenate([layout.landmark_uv, layout.mean_uv])).cuda()
    maps, transforms = torch.rand(batch, 3, 128, 128, device="cuda"), _transforms(batch)
    points, facing, rest = (
        torch.empty(batch * n, device="cuda") for n in (3 * count, count, 3 * rest_count)
    )
    common = {
        "maps": maps.data_ptr(), "transforms": transforms.data_ptr(), "shape": (batch, 128, 128),
    }  # fmt: skip
    first = {"points": points.data_ptr(), "facing": facing.data_ptr(), "count": count, **common}

    def one(stream: int) -> None:
        cuda.extract_landmarks(
            uv=uv.data_ptr(), rest=rest.data_ptr(), rest_count=rest_count, stream=stream, **first
        )

    def two(stream: int) -> None:
        cuda.extract_landmarks(uv=uv.data_ptr(), stream=stream, **first)
        cuda.extract_landmarks(
            uv=uv[count:].data_ptr(), points=rest.data_ptr(), count=rest_count, stream=stream,
            **common,
        )  # fmt: skip

    return {"one_launch_us": _timed(one), "two_launches_us": _timed(two)}


def _pose(batch: int) -> dict[str, float]:
    import torch
    from posgan_edge_kernels import cuda

    mean = torch.from_numpy(load_layout("ict").mean_points).cuda()
    points = mean[None] * 100 + torch.randn(batch, len(mean), 3, device="cuda")
    out = torch.empty(batch, 14, device="cuda")

    def ours(stream: int) -> None:
        cuda.pose_fit(
            points=points.data_ptr(), mean=mean.data_ptr(), out=out.data_ptr(), faces=batch,
            count=len(mean), stream=stream,
        )  # fmt: skip

    return {"kernel_us": _timed(ours)}


if __name__ == "__main__":
    main()
