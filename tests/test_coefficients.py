"""Reading faces from the coefficients of a network, without its maps."""

import shutil
from importlib.resources import files

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from posgan_edge import (
    Crop,
    Engine,
    EngineInfo,
    FacePipeline,
    FaceTracker,
    Frame,
    GivenBoxes,
    load_engine,
)
from posgan_edge.engines.modes import coefficient_model
from posgan_edge.errors import BadInput
from posgan_edge.faces.readers import make_reader
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.values import FaceBox
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX
from tests.helpers.there import there

ASSETS = files("posgan_edge.assets")
kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")


def crops(count):
    rng = np.random.default_rng(count)
    return [Crop(224 + x, 132 + y, 150 + s, a) for x, y, s, a in rng.normal(0, 6, (count, 4))]


@pytest.mark.parametrize("name", ["edge", "edge-int8"])
def test_coefficients_times_modes_are_the_maps(name):
    images = np.random.default_rng(1).random((3, 3, 128, 128), np.float32)
    with load_engine(name) as engine:
        found = there(engine.coefficients())
        values = found.infer(images)
        assert values.shape == (3, 3, len(found.modes))
        maps = (values @ found.modes).reshape(3, 3, 128, 128)
        assert np.abs(maps - engine.infer(images)).max() < 1e-5
        with pytest.raises(BadInput, match=r"input is float64"):
            found.infer(images.astype(float))
    with pytest.raises(BadInput, match="the engine is closed"):
        found.infer(images)
    with pytest.raises(BadInput, match="the engine is closed"):
        engine.coefficients()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["edge", "edge-int8"])
def test_landmarks_without_maps_are_those_of_the_maps(name, count, workers):
    frame, layout = Frame(read_image(PORTRAIT)), load_layout("ict").with_landmarks("300w")
    with load_engine(name) as engine:
        dense = make_reader(engine, layout, name="host")
        sparse = make_reader(engine, layout, dense=False, workers=workers)
        assert [type(r).__name__ for r in (dense, sparse)] == ["KernelReader", "CoefficientReader"]
        expected, found = (r.read(frame, crops(count)) for r in (dense, sparse))
        assert found.maps is None
        assert np.abs(found.landmarks - expected.landmarks).max() < 1e-3
        assert np.abs(there(found.facing) - there(expected.facing)).max() < 1e-4
        for pose, reference in zip(found.poses, expected.poses, strict=True):
            assert np.abs(pose.rotation - reference.rotation).max() < 1e-4
            assert pose.residual == pytest.approx(reference.residual, rel=1e-3)
        draft = sparse.read(frame, crops(count), draft=True)
        assert draft.facing is None
        assert np.array_equal(draft.landmarks, found.landmarks)
        sparse.close()


def test_a_tracker_without_maps_reads_coefficients():
    image, box = read_image(PORTRAIT), FaceBox(*PORTRAIT_BOX)
    with FaceTracker("edge", GivenBoxes([box]), dense=False, smooth=False) as tracker:
        (face,) = tracker.update(image, 0.0)
        assert tracker.pipeline.engine.__dict__["_cut"] is not None
    with FacePipeline("edge") as pipeline:
        (expected,) = pipeline.process(image, [box])
    assert face.position_map is None
    assert np.abs(face.landmarks - expected.landmarks).max() < 0.02


def product(**changes):
    """A small network: coefficients (N, 3, 4) = Reshape(Flatten(image) @ weights), then modes."""
    rng = np.random.default_rng(0)
    arrays = {
        "weights": rng.normal(0, 0.01, (3 * 16 * 16, 12)).astype(np.float32),
        "shape": np.array([-1, 3, 4]),
        changes.get("constant", "modes"): rng.normal(0, 1, (4, 256)).astype(np.float32),
        "map_shape": np.array([-1, 3, 16, 16]),
        "unused": np.zeros(9, np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["numbers"]),
        helper.make_node("Reshape", ["numbers", "shape"], ["few"]),
        helper.make_node(
            changes.get("last", "MatMul"), ["few", changes.get("constant", "modes")], ["much"]
        ),
        helper.make_node("Reshape", ["much", "map_shape"], ["position_map"]),
    ]
    if changes.get("offset"):
        nodes[-1].output[0] = "raw"
        nodes.append(helper.make_node("Add", ["raw", "raw"], ["position_map"]))
    if changes.get("branch"):
        arrays["which"] = np.array(True)
        part = helper.make_graph(
            [helper.make_node("Identity", ["flat"], ["inner"])], "part", [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        )  # fmt: skip
        nodes[1].input[0] = "chosen"
        nodes.insert(
            1,
            helper.make_node("If", ["which"], ["chosen"], then_branch=part, else_branch=part),
        )
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("position_map", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    helper.set_model_props(model, {"name": "small", "layout": "ict"})
    return model


def test_only_what_the_coefficients_need_is_kept():
    model = product()
    changed, name = there(coefficient_model(model.SerializeToString(), 4))
    cut = onnx.load_from_string(changed)
    onnx.checker.check_model(cut, full_check=True)
    assert name == "few"
    assert [node.op_type for node in cut.graph.node] == ["Flatten", "MatMul", "Reshape"]
    assert {i.name for i in cut.graph.initializer} == {"weights", "shape"}
    (output,) = cut.graph.output
    assert [d.dim_value or d.dim_param for d in output.type.tensor_type.shape.dim] == [
        "batch", 3, 4,
    ]  # fmt: skip
    assert (cut.ir_version, cut.opset_import, cut.metadata_props) == (
        model.ir_version, model.opset_import, model.metadata_props,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "there_are"),
    [
        ({}, True),
        ({"constant": "other"}, False),  # its modes are not known
        ({"last": "Add"}, False),
        ({"offset": True}, False),
        ({"branch": True}, False),
    ],
)
def test_networks_with_and_without_coefficients(tmp_path, changes, there_are):
    model = product(**changes)
    if changes.get("last"):  # the same shapes
        model.graph.initializer[2].CopyFrom(
            onnx.numpy_helper.from_array(np.ones((1, 3, 4), np.float32), "modes")
        )
        model.graph.initializer[3].CopyFrom(
            onnx.numpy_helper.from_array(np.array([-1, 3, 2, 2]), "map_shape")
        )
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 2
        model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 2
    onnx.save(model, tmp_path / "small.onnx")
    with load_engine(tmp_path / "small.onnx") as engine:
        assert (engine.coefficients() is not None) == there_are
        reader = make_reader(engine, load_layout("ict"), dense=False)
        assert type(reader).__name__ == ("CoefficientReader" if there_are else "KernelReader")


def test_a_file_that_has_changed_or_is_gone_is_not_read_again(tmp_path):
    path = tmp_path / "own.onnx"
    shutil.copy(str(ASSETS / "edge.onnx"), path)
    with load_engine(path) as engine:
        path.write_bytes(path.read_bytes() + b"\x08\x09")
        assert engine.coefficients() is None
        path.unlink()
        assert engine.coefficients() is None


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_broken_model(cut):
    data = product().SerializeToString()
    with pytest.raises((ValueError, IndexError)):
        coefficient_model(data[: len(data) // 2 + cut], 4)


def test_other_engines_have_none():
    class Other(Engine):
        info = EngineInfo("other", "none", "ict", 128, 128)

        def _infer(self, images):
            return np.zeros((len(images), 3, 128, 128), np.float32)

    assert Other().coefficients() is None
    assert type(make_reader(Other(), load_layout("ict"), dense=False)).__name__ == "KernelReader"
