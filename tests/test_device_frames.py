"""What a frame costs on its way to a GPU, on a stand-in: rows, copies, launches, pinned memory."""

import gc
import threading

import numpy as np
import pytest

from posgan_edge import Crop, Frame, load_engine, load_layout
from posgan_edge.faces.readers.device import DeviceReader
from posgan_edge.faces.readers.frames import rows_touched
from posgan_edge.faces.readers.pinned import PinnedFrames
from posgan_edge.images import read_image
from posgan_edge.live.capture import Capture
from posgan_edge.live.sources import Source, open_source
from tests.helpers.capture import COUNTED
from tests.helpers.data import PORTRAIT
from tests.helpers.there import there

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
CROP = Crop(640, 300, 280, 9)
SIDES = [30.0, 128.0, 200.0, 700.0, 9000.0]


@pytest.fixture(scope="module")
def engine():
    return load_engine("edge")


@pytest.fixture
def frame():
    """720p, noise: no two rows are the same."""
    return np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)


def matrices(*crops):
    return np.stack([crop.matrix for crop in crops]).astype(np.float32)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [32, 128])
def test_no_other_row_is_read(side, size):
    rng = np.random.default_rng(int(side))
    frame, other = rng.integers(0, 256, (2, 200, 320, 3), np.uint8)
    narrowed = 0
    for _ in range(40):
        x, y, angle = rng.uniform((-100, -100, -180), (420, 300, 180))
        crop = Crop(x, y, side * rng.uniform(0.7, 1.3), angle)
        first, end = rows_touched([crop], size, 200)
        assert 0 <= first <= end <= 200
        narrowed += end - first < 200
        partly = other.copy()
        partly[first:end] = frame[first:end]
        ours, whole = (kernels.crop_normalize(f, matrices(crop), size) for f in (partly, frame))
        np.testing.assert_array_equal(ours.view(np.uint32), whole.view(np.uint32))
    assert narrowed > (25 if side < 100 else 5 if side < 200 else -1)


@pytest.mark.parametrize(
    ("crops", "rows"),
    [
        ([Crop(100, 100, 40)], (77, 123)),
        ([Crop(100, 100, 40), Crop(100, 150, 40)], (77, 173)),
        ([Crop(100, 10, 40)], (0, 33)),
        ([Crop(100, 195, 40)], (172, 200)),
        ([Crop(100, -300, 40)], (0, 0)),
        ([Crop(100, 900, 40)], (0, 0)),
        ([Crop(2e5, 100, 40)], (0, 200)),
        ([Crop(100, 100, 40, 45)], (68, 132)),
        ([Crop(100, 100, 40, 180)], (77, 123)),
    ],
)
def test_rows_of_crops(crops, rows):
    assert rows_touched(crops, 128, 200) == rows


def counted(device, reader, frame, crops):
    """What one ``read`` put on the stream, and how many bytes it copied on the host."""
    before, launches = dict(device.stream.counts), device.kernels.launches
    reader.read(frame, crops)
    found = {name: device.stream.counts[name] - before[name] for name in COUNTED}
    return {**found, "graphs": device.kernels.launches - launches}


@pytest.fixture
def copied(monkeypatch):
    """Bytes that ``np.copyto`` copied."""
    sizes, real = [], np.copyto

    def copyto(to, values):
        sizes.append(values.nbytes)
        real(to, values)

    monkeypatch.setattr(np, "copyto", copyto)
    return sizes


@pytest.mark.parametrize(
    ("integrated", "captured", "uploads", "uploaded", "host"),
    [
        (False, False, 1, 330 * 3840, 330 * 3840),
        (False, True, 1, 330 * 3840, 0),
        (True, False, 0, 0, 330 * 3840),
        (True, True, 0, 0, 0),
    ],
    ids=["discrete", "discrete, captured", "integrated", "integrated, captured"],
)
def test_what_one_face_in_720p_costs(
    engine, frame, copied, integrated, captured, uploads, uploaded, host
):
    """The table of docs/engines.md."""
    from tests.helpers.device import StandIn

    device = StandIn(engine, 4, integrated=integrated)
    reader = DeviceReader(device, load_layout("ict"), dense=False)
    reader.read(Frame(frame), [CROP])
    image = frame
    if captured:
        image = into_ring(reader, frame)
    copied.clear()
    assert counted(device, reader, Frame(image), [CROP]) == {
        "uploads": uploads, "uploaded": uploaded, "downloads": 0, "downloaded": 0,
        "kernels": 3, "graphs": 1,
    }  # fmt: skip
    assert sum(copied) == host


def into_ring(reader, image):
    """The picture in a buffer of the reader's ring, as if a source had written it there."""
    if (memory := reader.memory.take(image.shape)) is None:
        reader.read(Frame(image), [CROP])  # the ring grows on the reader's thread
        memory = reader.memory.take(image.shape)
    memory[:] = image
    return memory


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_every_way_gives_the_same_numbers_from_one_graph_each(engine, integrated, captured):
    from tests.helpers.device import StandIn

    picture, layout = read_image(PORTRAIT), load_layout("ict")
    plain = DeviceReader(StandIn(engine, 2), layout)
    device = StandIn(engine, 2, integrated=integrated)
    reader = DeviceReader(device, layout)
    for image in (picture, np.ascontiguousarray(picture[:300, :400]), picture):
        for count in (1, 3, 2):
            rng = np.random.default_rng(count)
            crops = [Crop(224 + x, 132 + y, 150, a) for x, y, a in rng.normal(0, 6, (count, 3))]
            here = into_ring(reader, image) if captured else image
            ours = reader.read(Frame(here), crops)
            theirs = plain.read(Frame(image.copy()), crops)
            maps = engine.infer(kernels.crop_normalize(image, matrices(*crops), 128))
            points, facing = kernels.extract_landmarks(
                maps, layout.landmark_uv, matrices(*crops), True
            )
            for one in (ours, theirs):
                np.testing.assert_allclose(one.landmarks, points, atol=1e-3)
                np.testing.assert_allclose(there(one.facing), facing, atol=1e-4)
            np.testing.assert_array_equal(ours.landmarks, theirs.landmarks)
            np.testing.assert_array_equal(there(ours.maps), there(theirs.maps))
            reader.memory.give(here)
    assert [network.count for network in device.networks] == [1, 2]
    reader.close()
    plain.close()
    assert all(network.closed for network in device.networks)
    assert all(pinned.freed for pinned in device.cuda.pinned)


def test_crops_farther_out_send_only_the_rows_that_are_missing(engine, frame):
    from tests.helpers.device import StandIn

    device = StandIn(engine, 2)
    reader, given = DeviceReader(device, load_layout("ict"), dense=False), Frame(frame)
    rows = [
        counted(device, reader, given, crops)["uploaded"] // 3840
        for crops in (
            [Crop(640, 300, 100)], [Crop(640, 300, 90)], [Crop(640, 320, 100)],
            [Crop(640, 300, 200)], [Crop(640, 600, 100), Crop(300, 300, 100)],
        )
    ]  # fmt: skip
    counts = device.stream.counts
    assert rows == [353 - 247, 0, 373 - 353, (247 - 196) + (404 - 373), 653 - 404]
    assert counts["uploads"] == 1 + 0 + 1 + 2 + 1


def test_the_ring_grows_to_what_is_in_flight_and_takes_memory_again():
    from tests.helpers.device import Cuda

    cuda = Cuda()
    ring = PinnedFrames(cuda, most=3)
    shape, taken = (10, 20, 3), []
    ring.grow()
    assert cuda.pinned == []  # nobody asked
    for _ in range(5):
        if (memory := ring.take(shape)) is None:
            ring.grow()
            memory = ring.take(shape)
        taken.append(memory)
    assert [memory is None for memory in taken] == [False, False, False, True, True]
    held = [there(memory) for memory in taken[:3]]
    assert len(cuda.pinned) == 3
    assert len({ring.device_address(memory) for memory in held}) == 3
    assert ring.device_address(np.zeros(shape, np.uint8)) is None
    assert ring.device_address(held[0][:, ::2]) is None
    assert not ring.give(np.zeros(shape, np.uint8))
    assert ring.give(held[0])
    assert ring.give(held[0])  # twice does no harm
    again = there(ring.take((5, 20, 3)))
    assert np.shares_memory(again, held[0])
    assert ring.take(shape) is None
    ring.give(again)
    ring.give(held[1])
    ring.grow()
    larger = (40, 20, 3)
    assert ring.take(larger) is None
    ring.grow()  # in place of the two that are free and too small
    assert [pinned.freed for pinned in cuda.pinned].count(True) == 2
    assert ring.take(larger) is not None
    ring.close()
    ring.close()
    assert not ring.give(held[2])
    assert ring.take(shape) is None
    ring.grow()
    assert [pinned.freed for pinned in cuda.pinned].count(False) == 2  # still in use


def test_a_ring_without_memory_leaves_frames_where_they_are(engine, frame):
    from tests.helpers.device import StandIn

    device = StandIn(engine, 1, pinnable=4 << 20)
    reader = DeviceReader(device, load_layout("ict"), dense=False)
    for _ in range(3):
        assert reader.memory.take(frame.shape) is None
        found = reader.read(Frame(frame), [CROP])
        assert np.isfinite(found.landmarks).all()


class Numbered(Source):
    """Frames that hold their number, written into the memory that is given; some fail."""

    name, rate, live = "numbered", 1000.0, True

    def __init__(self, shapes):
        self.shapes, self.used = list(shapes), []
        self.number = 0

    def read(self, into=None):
        if self.number == len(self.shapes):
            return None
        shape = self.shapes[self.number]
        self.number += 1
        if shape is None:
            return np.empty((0, 0, 3), np.uint8)
        image = self.memory(into, shape)
        self.used.append(image is into)
        image[:] = self.number
        return image


def test_a_source_writes_into_the_ring_and_every_buffer_comes_back():
    from tests.helpers.device import Cuda

    cuda = Cuda()
    ring, small, large = PinnedFrames(cuda), (8, 8, 3), (16, 8, 3)
    source = Numbered([small] * 30 + [None] * 3 + [large] * 30)
    seen, pinned = [], 0
    capture = Capture(source, drop=False)
    capture.memory = ring
    with capture:
        for frame in capture:
            ring.grow()
            pinned += ring.device_address(frame.image) is not None
            seen.append(int(frame.image[0, 0, 0]))
            assert (frame.image == seen[-1]).all()  # nobody else wrote there
            capture.release(frame)
    assert seen == [*range(1, 31), *range(34, 64)]
    assert pinned > 30
    assert len(cuda.pinned) <= 12
    ring.close()
    assert all(p.freed for p in cuda.pinned)  # all were back


@pytest.mark.parametrize("drop", [False, True])
def test_frames_that_are_dropped_or_left_over_come_back_too(drop):
    from tests.helpers.device import Cuda

    cuda = Cuda()
    ring = PinnedFrames(cuda)
    source = Numbered([(8, 8, 3)] * 200)
    capture = Capture(source, drop=drop, rate=300)
    capture.memory = ring
    with capture:
        for count, frame in enumerate(capture):
            ring.grow()
            threading.Event().wait(0.004)
            capture.release(frame)
            if count == 8:
                break
    assert any(source.used)
    ring.close()
    assert all(p.freed for p in cuda.pinned)


def test_opencv_writes_a_video_s_frames_straight_into_the_ring(tmp_path):
    import cv2

    from tests.helpers.device import Cuda

    path = str(tmp_path / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for value in range(20):
        writer.write(np.full((48, 64, 3), 12 * value, np.uint8))
    writer.release()
    cuda, pinned, values = Cuda(), 0, []
    ring = PinnedFrames(cuda)
    capture = Capture(open_source(path))
    capture.memory = ring
    with capture:
        for frame in capture:
            ring.grow()
            pinned += ring.device_address(frame.image) is not None
            values.append(int(frame.image.mean()))
            capture.release(frame)
    assert len(values) == 20
    assert np.abs(np.subtract(values, 12 * np.arange(20))).max() <= 3
    assert pinned >= 10
    gc.collect()
    ring.close()
    assert all(p.freed for p in cuda.pinned)


@pytest.mark.parametrize("integrated", [False, True])
def test_run_captures_into_the_ring_of_its_engine(run, tmp_path, monkeypatch, engine, integrated):
    from posgan_edge.cli.options import EngineOptions
    from tests.helpers.device import StandIn

    device = StandIn(engine, 1, integrated=integrated)
    monkeypatch.setattr(EngineOptions, "engine", lambda _: device)
    code, _, err = run(
        "run", "synthetic:?width=320&height=240&seconds=1&sway=0&roll=0&zoom=0", "--box",
        "120,62,79,77", "--json", tmp_path / "out.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 30
    sizes = [pinned.values.nbytes for pinned in device.cuda.pinned]
    assert 2 < sizes.count(3 * 320 * 240) <= 11  # one is for frames from elsewhere
    assert all(pinned.freed for pinned in device.cuda.pinned)
    assert (device.stream.counts["uploads"] == 0) == integrated


def test_on_the_cpu_any_memory_will_do(engine):
    from posgan_edge import FacePipeline

    with FacePipeline(engine) as pipeline:
        assert pipeline.frame_memory is None
