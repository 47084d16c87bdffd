"""Readers against each other; the device's on a stand-in for the GPU (``tests.helpers.device``)."""

import numpy as np
import pytest

from posgan_edge import Crop, FaceBox, FacePipeline, Frame, load_engine, load_layout
from posgan_edge.engines.kernels import NotEnqueued, captured
from posgan_edge.errors import BadInput
from posgan_edge.faces.readers import READERS, make_reader
from posgan_edge.faces.readers.device import DeviceReader
from posgan_edge.faces.readers.frames import rows_touched
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.geometry.sampling import surface_facing
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX
from tests.helpers.there import there

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
BOX = FaceBox(*PORTRAIT_BOX)


@pytest.fixture
def engine():
    return load_engine("edge")


@pytest.fixture
def frame():
    return read_image(PORTRAIT)


def crops(count):
    rng = np.random.default_rng(count)
    return [Crop(224 + x, 132 + y, 150 + s, a) for x, y, s, a in rng.normal(0, 6, (count, 4))]


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_the_device_equals_numpy(engine, frame, count, dense, graphs):
    from tests.helpers.device import StandIn

    device, layout = StandIn(engine, 4, graphs), load_layout("ict")
    reader = DeviceReader(device, layout, dense)
    for group in (crops(count), crops(count + 1)[1:]):  # the second time from the graph
        found = reader.read(Frame(frame), group)
        matrices = np.stack([c.matrix for c in group]).astype(np.float32)
        maps = engine.infer(kernels.crop_normalize(frame, matrices, 128))
        expected = [c.to_frame(p) for c, p in zip(group, layout.landmarks(maps), strict=True)]
        assert np.abs(found.landmarks - expected).max() < 0.01
        assert np.abs(there(found.facing) - surface_facing(maps, layout.landmark_uv)).max() < 1e-3
        for pose, xyz, crop in zip(found.poses, maps, group, strict=True):
            reference = fit_pose(xyz, layout, crop)
            assert np.abs(pose.rotation - reference.rotation).max() < 1e-4
            assert pose.scale == pytest.approx(reference.scale, rel=1e-4)
            assert pose.residual == pytest.approx(reference.residual, rel=1e-3)
            assert pose.translation == pytest.approx(reference.translation, abs=0.02)
        if dense:
            assert np.abs(found.maps - maps).max() < 1e-4
        else:
            assert found.maps is None
    assert (there(device.kernels).launches > 0) == graphs
    assert sorted(reader.not_captured) == (
        [] if graphs else sorted({count % 4 or 4, min(count, 4)})
    )


def test_pipeline_on_a_device_agrees_with_that_on_the_cpu(engine, frame):
    from tests.helpers.device import StandIn

    (here,) = FacePipeline(engine).process(Frame(frame), [BOX])
    device = StandIn(engine, 1)
    (there,) = FacePipeline(device, dense=False).process(Frame(frame), [BOX])
    # OpenCV's fixed-point warp and another filter for shrinking: not the same pixels.
    assert np.abs(here.landmarks - there.landmarks)[:, :2].max() < 0.6
    assert here.pose.rotation == pytest.approx(there.pose.rotation, abs=0.01)
    assert here.position_map is not None
    assert there.position_map is None
    assert FacePipeline(device).process(Frame(frame), []) == []


def test_a_second_pass_does_not_send_the_frame_again(engine, frame):
    from tests.helpers.device import StandIn

    device = StandIn(engine, 1)
    pipeline = FacePipeline(device, passes=2, dense=False)
    (crop,) = [face.crop for face in pipeline.process(Frame(frame), [BOX])]
    before = dict(device.stream.counts)
    pipeline.process(Frame(frame), [BOX])
    counts = {name: value - before[name] for name, value in device.stream.counts.items()}
    first = rows_touched([Crop.from_box(BOX)], 128, len(frame))
    second = rows_touched([crop], 128, len(frame))
    rows = max(first[1], second[1]) - min(first[0], second[0])
    assert counts["uploaded"] == rows * 3 * frame.shape[1]
    assert counts["uploads"] <= 3  # the second crop may reach farther on either side


def test_a_frame_is_known_by_identity_and_not_by_its_memory(engine, frame):
    from tests.helpers.device import StandIn

    device, memory = StandIn(engine, 1), frame.copy()
    reader = DeviceReader(device, load_layout("ict"))
    first = Frame(memory)
    one = reader.read(first, crops(1))
    uploaded = device.stream.counts["uploaded"]
    again = reader.read(first, crops(1))
    assert device.stream.counts["uploaded"] == uploaded
    assert np.array_equal(again.landmarks, one.landmarks)
    memory[:] = memory[:, ::-1]  # the next frame of a camera, in the same memory
    other = reader.read(Frame(memory), crops(1))
    assert device.stream.counts["uploaded"] == 2 * uploaded > 0
    assert np.abs(other.landmarks - one.landmarks).max() > 1


def test_only_larger_frames_take_new_buffers_and_none_takes_a_new_graph(engine, frame):
    from tests.helpers.device import StandIn

    device, larger = StandIn(engine, 2), np.concatenate([frame, frame])
    pipeline = FacePipeline(device)
    made = []
    for image in (frame, frame[:300, :400], frame, larger, frame):
        faces = pipeline.at_crops(np.ascontiguousarray(image), crops(2))
        assert all(np.isfinite(face.landmarks).all() for face in faces)
        made.append((len(device.cuda.allocated), len(device.cuda.pinned)))
    assert len(set(made[:3])) == 1
    assert made[3:] == [(made[0][0] + 1, made[0][1] + 1)] * 2
    assert len(device.networks) == 1
    assert sum(m.freed for m in device.cuda.allocated) == 1
    with pytest.raises(BadInput, match=r"float64.*give uint8"):
        pipeline.at_crops(frame.astype(float), crops(1))
    pipeline.close()
    pipeline.close()
    assert sum(not m.freed for m in device.cuda.allocated) == 2  # the engine's own
    with pytest.raises(BadInput, match="the reader is closed"):
        pipeline.at_crops(frame, crops(1))


def test_a_refusal_is_raised_and_is_no_graph(engine, frame):
    from tests.helpers.device import StandIn

    device = StandIn(engine, 1, refuse=True)
    with pytest.raises(BadInput, match="refused a batch of 1"):
        DeviceReader(device, load_layout("ict")).read(Frame(frame), crops(1))

    def refuse():
        raise NotEnqueued("no")

    assert captured(device.kernels, device.stream.handle, refuse) is None
    assert captured(None, 0, refuse) is None


def test_averaging_mirrored_crops_keeps_to_the_host(engine, frame):
    from tests.helpers.device import StandIn

    (face,) = FacePipeline(StandIn(engine, 2), mirror=True).process(Frame(frame), [BOX])
    (expected,) = FacePipeline(engine, mirror=True).process(Frame(frame), [BOX])
    assert np.abs(face.landmarks - expected.landmarks).max() < 1e-3


def test_readers_by_name(engine, frame):
    from tests.helpers.device import StandIn

    layout, device = load_layout("ict"), StandIn(engine, 2)
    names = {name: type(make_reader(device, layout, name=name)).__name__ for name in READERS}
    assert names == {"device": "DeviceReader", "host": "KernelReader", "numpy": "NumpyReader"}
    assert type(make_reader(device, layout)).__name__ == "DeviceReader"
    assert type(make_reader(device, layout, mirror=True)).__name__ == "KernelReader"
    assert type(make_reader(engine, layout)).__name__ == "KernelReader"
    with pytest.raises(BadInput, match="no reading on the device"):
        make_reader(engine, layout, name="device")
    with pytest.raises(BadInput, match=r"unknown reader 'gpu': use device, host, numpy"):
        make_reader(engine, layout, name="gpu")


def test_host_readers_agree_and_a_draft_leaves_out_what_is_thrown_away(engine, frame):
    layout, image = load_layout("ict"), Frame(frame)
    readings = [make_reader(engine, layout, name=n).read(image, crops(3)) for n in READERS[1:]]
    assert np.abs(readings[0].landmarks - readings[1].landmarks).max() < 0.01
    assert np.abs(there(readings[0].facing) - there(readings[1].facing)).max() < 1e-3
    for name, whole in zip(READERS[1:], readings, strict=True):
        draft = make_reader(engine, layout, name=name).read(image, crops(3), draft=True)
        assert draft.facing is None
        assert draft.maps is None
        assert np.array_equal(draft.landmarks, whole.landmarks)
        assert set(draft.timings) == {"crop", "network"}
