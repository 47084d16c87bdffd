"""The device's frame path against numpy's, on a stand-in for the GPU (``tests.helpers.device``)."""

import numpy as np
import pytest

from posgan_edge import Crop, FaceBox, FacePipeline, Frame, load_engine, load_layout
from posgan_edge.engines.kernels import NotEnqueued, captured
from posgan_edge.errors import BadInput
from posgan_edge.geometry.pose import fit_pose
from posgan_edge.geometry.sampling import surface_facing
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

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
def test_equals_the_numpy_way(engine, frame, count, dense, graphs):
    from tests.helpers.device import DeviceEngine

    device, layout = DeviceEngine(engine, 4, graphs), load_layout("ict")
    path = device.frame_path(layout)
    for group in (crops(count), crops(count + 1)[1:]):  # the second time from the graph
        located = path.locate(frame, group, dense=dense)
        matrices = np.stack([c.matrix for c in group]).astype(np.float32)
        maps = engine.infer(kernels.crop_normalize(frame, matrices, 128))
        expected = [c.to_frame(p) for c, p in zip(group, layout.landmarks(maps), strict=True)]
        assert np.abs(located.landmarks - expected).max() < 0.01
        assert np.abs(located.facing - surface_facing(maps, layout.landmark_uv)).max() < 1e-3
        for pose, xyz, crop in zip(located.poses, maps, group, strict=True):
            reference = fit_pose(xyz, layout, crop)
            assert np.abs(pose.rotation - reference.rotation).max() < 1e-4
            assert pose.scale == pytest.approx(reference.scale, rel=1e-4)
            assert pose.residual == pytest.approx(reference.residual, rel=1e-3)
            assert pose.translation == pytest.approx(reference.translation, abs=0.02)
        if dense:
            assert np.abs(located.maps - maps).max() < 1e-4
        else:
            assert located.maps is None
    assert (device.kernels.launches > 0) == graphs


def test_pipeline_on_a_device_agrees_with_that_on_the_cpu(engine, frame):
    from tests.helpers.device import DeviceEngine

    (here,) = FacePipeline(engine).process(Frame(frame), [BOX])
    device = DeviceEngine(engine, 1)
    (there,) = FacePipeline(device, dense=False).process(Frame(frame), [BOX])
    # OpenCV's fixed-point warp and another filter for shrinking: not the same pixels.
    assert np.abs(here.landmarks - there.landmarks)[:, :2].max() < 0.6
    assert here.pose.rotation == pytest.approx(there.pose.rotation, abs=0.01)
    assert here.position_map is not None
    assert there.position_map is None
    assert FacePipeline(device).process(Frame(frame), []) == []


def test_a_second_pass_does_not_send_the_frame_again(engine, frame):
    from tests.helpers.device import DeviceEngine

    device = DeviceEngine(engine, 1)
    pipeline = FacePipeline(device, passes=2, dense=False)
    pipeline.process(Frame(frame), [BOX])
    device.stream.uploads = 0
    pipeline.process(Frame(frame), [BOX])
    assert device.stream.uploads == frame.nbytes + 2 * 24


def test_frames_of_another_size_take_new_buffers(engine, frame):
    from tests.helpers.device import DeviceEngine

    device = DeviceEngine(engine, 2)
    path = device.frame_path(load_layout("ict"))
    for image in (frame, frame[:300, :400], frame):
        located = path.locate(np.ascontiguousarray(image), crops(2))
        assert np.isfinite(located.landmarks).all()
    assert sum(m.freed for m in device.cuda.allocated) == 2
    with pytest.raises(BadInput, match="no frame of this size"):
        path.locate(frame[:200], crops(1), fresh=False)
    with pytest.raises(BadInput, match=r"float64.*give uint8"):
        path.locate(frame.astype(float), crops(1))
    path.close()
    assert sum(not m.freed for m in device.cuda.allocated) == 2  # the engine's own


def test_a_refusal_is_raised_and_is_no_graph(engine, frame):
    from tests.helpers.device import DeviceEngine

    device = DeviceEngine(engine, 1, refuse=True)
    with pytest.raises(BadInput, match="refused a batch of 1"):
        device.frame_path(load_layout("ict")).locate(frame, crops(1))

    def refuse():
        raise NotEnqueued("no")

    assert captured(device.kernels, device.stream.handle, refuse) is None
    assert captured(None, 0, refuse) is None


def test_averaging_mirrored_crops_keeps_to_the_host(engine, frame):
    from tests.helpers.device import DeviceEngine

    class Plain(DeviceEngine):
        def infer(self, images):
            return engine.infer(images)

    (face,) = FacePipeline(Plain(engine, 2), mirror=True).process(Frame(frame), [BOX])
    (expected,) = FacePipeline(engine, mirror=True).process(Frame(frame), [BOX])
    assert np.abs(face.landmarks - expected.landmarks).max() < 1e-3
