"""The CUDA kernels, compiled for the CPU and run in adverse orders, against the host path.

The emulator checks each access: bounds, shared memory read before it is written, races between
barriers, threads that part at a barrier. The mutations at the end show that it does.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from posgan_edge import Crop, load_layout
from tests.emulator.build import SOURCES, Emulator, available, common_objects, compiled
from tests.helpers.poses import assert_pose

pytestmark = pytest.mark.skipif(not available(), reason="g++ is not on the PATH")
ORDERS = (0, 1, 2, 3, 4)  # forward, in reverse, and three random ones


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    return common_objects(tmp_path_factory.mktemp("common"))


@pytest.fixture(scope="module")
def emulator(common, tmp_path_factory):
    return Emulator(compiled(tmp_path_factory.mktemp("emulator"), common=common))


def both(emulator, name, arguments, outputs):
    """What the host gives, and what the device gives in every order."""
    found = []
    for order in (None, *ORDERS):
        fresh = {id(out): np.zeros_like(out) for out in outputs}
        emulator.order(order or 0)
        emulator.run(name, order is not None, [fresh.get(id(a), a) for a in arguments])
        found.append(list(fresh.values()))
    return found[0], found[1:]


def transforms_of(*crops):
    return np.stack([crop.matrix for crop in crops]).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("faces", "height", "width"), [(1, 128, 128), (8, 96, 96), (3, 7, 33)])
@pytest.mark.parametrize(("facing", "rest"), [(False, 0), (True, 0), (True, 141)])
def test_landmarks_equal_the_host_s_bit_for_bit(
    emulator, dtype, faces, height, width, facing, rest
):
    rng = np.random.default_rng(0)
    maps = rng.random((faces, 3, height, width)).astype(dtype)
    maps[0, 1, 2, 3] = np.nan
    uv = rng.uniform(-0.1, 1.1, (300 + rest, 2)).astype(np.float32)
    uv[0] = 3.5 / width, 2.5 / height
    transforms = transforms_of(*(Crop(300 + i, 200, 150 + i, 30 * i) for i in range(faces)))
    transforms[-1, :, :2] *= faces != 3  # one without a scale
    points, cosines = np.zeros((faces, 300, 3), np.float32), np.zeros((faces, 300), np.float32)
    others = np.zeros((faces, rest, 3), np.float32)
    expected, found = both(
        emulator,
        "extract_landmarks",
        [maps, dtype == np.float16, uv, transforms, points, cosines if facing else None, others,
         faces, 300, rest, height, width],
        [points, others, cosines] if facing else [points, others],
    )  # fmt: skip
    assert np.isnan(expected[0]).any()
    for one in found:
        for ours, theirs in zip(one, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if rest:  # the same as two launches
        apart, _ = both(
            emulator,
            "extract_landmarks",
            [maps, dtype == np.float16, np.ascontiguousarray(uv[300:]), transforms, others, None,
             None, faces, rest, 0, height, width],
            [others],
        )  # fmt: skip
        np.testing.assert_array_equal(expected[1], apart[0])


def crops(
    emulator, frame, chroma, pitches, transforms, size, dtype, bt709=False, full=False, place=None
):
    out = np.zeros((len(transforms), 3, size, size), dtype)
    height, width = frame.shape[:2]
    expected, found = both(
        emulator,
        "crop_normalize",
        [frame, chroma, *pitches, height, width, bt709, full, transforms, out,
         dtype == np.float16, len(transforms), size, 1.0, 2.0, 3.0, place],
        [out],
    )  # fmt: skip
    assert expected[0].std() > 0
    bits = f"u{out.itemsize}"
    for one in found:
        np.testing.assert_array_equal(one[0].view(bits), expected[0].view(bits))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("side", [40.0, 181.0, 300.0])
@pytest.mark.parametrize("placed", [False, True])
def test_crops_equal_the_host_s_bit_for_bit(emulator, dtype, side, placed):
    frame = np.random.default_rng(0).integers(0, 256, (120, 164, 3), np.uint8)
    transforms = transforms_of(*(Crop(80 + 20 * i, 60, side, 50 * i) for i in range(3)))
    place = np.zeros(4, np.int64) if placed else None
    crops(emulator, frame, None, (492, 0), transforms, 45, dtype, place=place)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bt709", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_crops_of_nv12_equal_the_host_s_bit_for_bit(emulator, dtype, bt709, full):
    rng = np.random.default_rng(0)
    luma = rng.integers(0, 256, (61, 80), np.uint8)
    chroma = rng.integers(0, 256, (31, 40, 2), np.uint8)
    transforms = transforms_of(Crop(40, 30, 50, 20), Crop(10, 30, 90))
    crops(emulator, luma, chroma, (80, 80), transforms, 32, dtype, bt709, full)


def pose_arguments(faces, stride, torn=0):
    mean = load_layout("ict").mean_points
    points = (np.random.default_rng(0).normal(size=(faces, stride, 3)) * 50).astype(np.float32)
    points[:, : len(mean)] += 900 * mean
    points[:, :torn] += 200
    out = np.zeros((faces, 14), np.float32)
    return [points, mean, out, faces, stride, len(mean), 4], out


@pytest.mark.parametrize(("stride", "torn"), [(792, 0), (860, 90)])
def test_poses_equal_the_host_s_to_rounding_in_every_order(emulator, stride, torn):
    arguments, out = pose_arguments(2, stride, torn)
    (expected,), found = both(emulator, "pose_fit", arguments, [out])
    for (one,) in found:
        np.testing.assert_array_equal(one, found[0][0])
        assert_pose(one, expected)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1000, dtype=np.float32),
        np.full(300, 0.1, np.float32),
        np.random.default_rng(0).exponential(size=997).astype(np.float32),
        np.random.default_rng(1).integers(0, 0x7F800000, 500, np.uint32).view(np.float32),
        np.arange(400, dtype=np.uint32).view(np.float32),  # below the smallest normal number
        np.array([np.inf, 0, 1e38, np.inf, 1e-45], np.float32),
        np.array([7], np.float32),
    ],
)
def test_the_median_is_the_one_of_sorting(emulator, values):
    values = np.random.default_rng(2).permutation(values)
    ordered = np.sort(values)
    for rank in {0, len(values) // 3, len(values) // 2, len(values) - 1}:
        assert emulator.value_of_rank(values, rank) == ordered[rank]


def test_a_face_without_a_pose_is_nan_on_the_device_too(emulator):
    mean = load_layout("ict").mean_points
    points = np.stack([mean, np.ones_like(mean), mean])
    points[2, 700, 1] = np.nan
    out = np.zeros((3, 14), np.float32)
    _, found = both(emulator, "pose_fit", [points, mean, out, 3, len(mean), len(mean), 4], [out])
    for (one,) in found:
        assert np.isfinite(one[0]).all()
        assert np.isnan(one[1:]).all()


@pytest.mark.parametrize(
    ("chunks", "address", "size", "message"),
    [
        ([(4096, 4096)], 4096, 4096, None),
        (
            [(4096, 4096)],
            4100,
            4096,
            "points: needs 4096 bytes, its allocation has 4092 from there",
        ),
        ([(4096, 4096), (8192, 8192)], 8000, 8384, None),
        ([(4096, 4096), (8192, 8192), (16384, 4096)], 4096, 16384, None),
        ([(4096, 4096), (8192, 8192)], 8000, 8385, "its allocation has 8384 from there"),
        ([(4096, 4096), (12288, 8192)], 8000, 8000, "its allocation has 192 from there"),
        ([(4096, 4096)], 12288, 4, "points: is not memory that the device can reach"),
        ([(4096, 4096)], 4098, 4, "points: must be aligned to 4 bytes"),
        ([(4096, 4096)], 0, 4, "points: is a null pointer"),
    ],
)
def test_memory_mapped_in_pieces_is_one_allocation(emulator, chunks, address, size, message):
    """As PyTorch's expandable segments are: the driver names one piece of them at a time."""
    emulator.chunks(*chunks)
    said = emulator.check_pointer(address, size)
    assert said is None if message is None else message in said


SYNC, STAGED = "    __syncthreads();", "\n  __syncthreads();"
#: A piece of kernels.cu, counted from 1 among its equals, what stands there instead, and what the
#: emulator says.
MUTATIONS = {
    "no barrier before points are moved": (STAGED, 1, "", "race|not initialised"),
    "no barrier before pixels are cut": (STAGED, 2, "", "race|not initialised"),
    "no barrier before a frame is found": (STAGED, 3, "", "race|not initialised"),
    "no barrier before sums are read": (SYNC, 1, "", "race|not initialised"),
    "no barrier after sums are read": (SYNC, 2, "", "race"),
    "no barrier after bins are emptied": (SYNC, 3, "", "race|not initialised"),
    "no barrier before bins are read": (SYNC, 4, "", "race"),
    "no barrier before warps are added": (SYNC, 5, "", "race|not initialised"),
    "no barrier before the bin is told": (SYNC, 6, "", "race|not initialised"),
    "counts that are not atomic": ("atomicAdd(bins + bin, 1)", 1, "bins[bin] += 1", "race"),
    "a barrier for one warp alone": (
        SYNC, 1, "if (threadIdx.x < 32) __syncthreads();", "divergence|race|not initialised",
    ),
    "a barrier that one thread passes by": (
        SYNC, 6, "if (threadIdx.x != 77) __syncthreads();", "divergence|race|not initialised",
    ),
    "a shuffle for half a warp": (
        "    for (int k = 0; k < N; ++k)", 1,
        "    if (threadIdx.x % 32 < 16) for (int k = 0; k < N; ++k)", "divergence",
    ),
    "too little shared memory": ("sizeof(float) * b.count", 1, "b.count", "out of bounds"),
    "points past the last": (
        "  if (point < count) functor(", 1, "functor(",
        "out of bounds",
    ),
    "two threads for one pixel": ("blockIdx.x * 32", 1, "blockIdx.x * 16", "race"),
    "two threads for one pixel of a placed frame": (
        "blockIdx.x * 32", 2, "blockIdx.x * 16", "race",
    ),
    "a median of the rank above": ("const int within = *rank", 1, "const int within = 1 + *rank",
                                   "another pose|not initialised"),
}  # fmt: skip


def mutated(text, old, number, new):
    parts = text.split(old)
    assert len(parts) > number, f"{old!r} stands there less than {number} times"
    return old.join(parts[:number]) + new + old.join(parts[number:])


@pytest.fixture(scope="module")
def mutants(common, tmp_path_factory):
    """Every mutation compiled, two at a time."""

    def build(name):
        folder = tmp_path_factory.mktemp("mutant")
        shutil.copytree(SOURCES, folder / "src")
        path = folder / "src" / "kernels.cu"
        path.write_text(mutated(path.read_text(), *MUTATIONS[name][:3]))
        return Emulator(compiled(folder, folder / "src", common))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MUTATIONS, pool.map(build, MUTATIONS), strict=True))


def found_by(emulator, order):
    """What the emulator says of the kernels in one order, or None."""
    emulator.order(order)
    arguments, pose = pose_arguments(1, 792, 90)
    uv, matrix = np.full((3, 2), 0.5, np.float32), transforms_of(Crop(40, 30, 50, 20))
    points, maps = np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 4, 4), np.float32)
    frame, out = np.zeros((60, 80, 3), np.uint8), np.zeros((1, 3, 40, 40), np.float32)
    for name, values in (
        ("extract_landmarks", [maps, False, uv, matrix, points, None, None, 1, 3, 0, 4, 4]),
        ("crop_normalize", [frame, None, 240, 0, 60, 80, False, False, matrix, out, False, 1, 40,
                            0.0, 0.0, 0.0, None]),
        ("crop_normalize", [frame, None, 240, 0, 60, 80, False, False, matrix, out, False, 1, 40,
                            0.0, 0.0, 0.0, np.zeros(4, np.int64)]),
        ("pose_fit", arguments),
    ):  # fmt: skip
        try:
            emulator.run(name, True, values)
        except RuntimeError as error:
            return str(error)
    fitted = pose.copy()
    emulator.run("pose_fit", False, arguments)
    try:
        assert_pose(fitted, pose)
    except AssertionError:
        return "another pose"
    return None


def test_the_kernels_as_they_are_show_nothing(emulator):
    assert [found_by(emulator, order) for order in ORDERS] == [None] * len(ORDERS)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_caught_in_every_order(mutants, name):
    for order in ORDERS:
        said = found_by(mutants[name], order)
        assert said, f"order {order}: nothing said"
        assert re.search(MUTATIONS[name][3], said), said
