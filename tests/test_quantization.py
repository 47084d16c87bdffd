import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from posgan_edge import Crop, load_engine
from posgan_edge.build import sensitivity as costs
from posgan_edge.build.calibration import (
    METHODS,
    CalibrationFaces,
    CalibrationRecord,
    _mse_range,
    calibrate,
    folder_faces,
)
from posgan_edge.build.fp16 import to_fp16
from posgan_edge.build.graph import head, layers, load_model, props, stem
from posgan_edge.build.int8 import matching_layers, to_int8
from posgan_edge.errors import BadInput, BudgetMissed
from posgan_edge.evaluation.aflw2000 import landmark_labels
from posgan_edge.faces.cropping import extract_crop
from posgan_edge.images import read_image
from tests.helpers.data import PORTRAIT, write_aflw2000

EDGE = PORTRAIT.with_name("edge.onnx")


@pytest.fixture(scope="module")
def model():
    return load_model(EDGE)


@pytest.fixture(scope="module")
def faces():
    """Shifted, scaled and turned crops of the portrait."""
    image, rng = read_image(PORTRAIT), np.random.default_rng(0)
    crops = [
        Crop(224 + rng.normal(0, 6), 132 + rng.normal(0, 6), rng.uniform(110, 170),
             rng.normal(0, 20))
        for _ in range(40)
    ]  # fmt: skip
    images = np.stack([extract_crop(image, c, 128) for c in crops])
    sources = tuple((f"crop{i}", "0" * 64) for i in range(40))
    return CalibrationFaces(images, sources, np.full((40, 68, 2), np.nan, np.float32))


@pytest.fixture(scope="module")
def record(model, faces):
    return calibrate(model, faces, "ict", "mse")


@pytest.fixture(scope="module")
def meter(model, faces):
    return costs.CostMeter(model, faces)


def types(model, op):
    known = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    return {known.get(n.output[0]) for n in model.graph.node if n.op_type == op}


def test_parts_of_the_graph(model):
    assert len(layers(model)) == 38
    assert {n.op_type for n in model.graph.node if n.name in stem(model)} <= {"Sub", "Mul"}
    kinds = [n.op_type for n in model.graph.node if n.name in head(model)]
    assert "MatMul" in kinds
    assert "Conv" not in kinds
    assert matching_layers(model, "^node_linear") == ["node_linear", "node_linear_1"]


def test_fp32_equals_torch_on_real_faces(faces):
    reference = load_engine(EDGE.with_suffix(".safetensors")).infer(faces.images)
    spread = reference.max() - reference.min()
    assert np.abs(load_engine("edge").infer(faces.images) - reference).max() < 1e-4 * spread


def test_fp16_is_strongly_typed_and_close(model, meter):
    half = to_fp16(model)
    assert types(half, "Conv") == {onnx.TensorProto.FLOAT16}
    assert types(half, "MatMul") <= {onnx.TensorProto.FLOAT, None}
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert props(half)["precision"] == "fp16"
    assert meter.cost(half).pixels < 0.1
    # The head is not rounded on its way: one cast into it, none inside.
    made = {n.output[0]: n for n in half.graph.node}
    casts = [n for n in half.graph.node if n.op_type == "Cast"]
    assert not any(made[n.input[0]].op_type == "Cast" for n in casts if n.input[0] in made)
    inner = to_fp16(model, keep_io=False)
    assert inner.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_int8_keeps_the_budget_in_a_third_of_the_bytes(model, record, meter):
    small = to_int8(model, record)
    assert meter.cost(small).pixels < 0.5
    assert len(small.SerializeToString()) < EDGE.stat().st_size / 3
    assert props(small)["precision"] == "int8"
    assert props(small)["calibration"] == record.digest
    quantized = [n for n in small.graph.node if n.op_type == "QuantizeLinear"]
    convolutions = [n for n in small.graph.node if n.op_type == "Conv"]
    assert 30 < len(quantized) <= len(convolutions)
    # No rounding between a convolution and what TensorRT fuses into it.
    fused = {i for n in small.graph.node if n.op_type == "Relu" for i in n.input}
    assert len(fused) > 20
    assert not any(n.input[0] in fused for n in quantized)
    # int32 biases would stop TensorRT's parser.
    assert not any(
        i.data_type == onnx.TensorProto.INT32 and i.name.endswith("_quantized")
        for i in small.graph.initializer
    )


def test_narrow_weights_survive_onnxruntimes_kernels(model, record, faces, tmp_path):
    """7-bit weights do not saturate in ONNX Runtime's optimised INT8 kernels, on any processor."""
    onnx.save(to_int8(model, record, target="onnxruntime"), tmp_path / "q.onnx")
    answer = load_engine(tmp_path / "q.onnx").infer(faces.images)
    reference = load_engine("edge").infer(faces.images)
    assert np.abs(answer - reference).mean() * 256 < 0.5


def test_onnxruntime_fuses_the_whole_encoder(model, record, tmp_path):
    """No float work is left between the first rounding and the head, and the head's constants
    are unpacked once, when the file is loaded."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    quantized = to_int8(model, record, target="onnxruntime").SerializeToString()
    ort.InferenceSession(quantized, options, providers=["CPUExecutionProvider"])
    kinds = Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == sum(n.op_type == "Conv" for n in model.graph.node)
    assert kinds["QuantizeLinear"] == 1
    assert not kinds["Conv"] + kinds["FusedConv"] + kinds["Relu"] + kinds["Cast"]
    assert kinds["DequantizeLinear"] <= 2


def test_layers_kept_in_float_are_not_quantized(model, record):
    keep = layers(model)[3]
    small = to_int8(model, record, [keep])
    node = next(n for n in small.graph.node if n.name == keep)
    assert not any("DequantizeLinear" in name for name in node.input[1:])
    assert props(small)["kept_float"] == keep


def test_conversions_repeat_byte_for_byte(model, faces, record):
    again = calibrate(model, faces, "ict", "mse")
    assert again.digest == record.digest
    first, second = (to_int8(model, r).SerializeToString(deterministic=True)
                     for r in (record, again))  # fmt: skip
    assert first == second
    assert to_fp16(model).SerializeToString() == to_fp16(model).SerializeToString()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "mse"])
def test_other_methods(model, faces, record, meter, method):
    other = calibrate(model, faces, "ict", method)
    assert set(other.ranges) == set(record.ranges)
    assert other.digest != record.digest
    assert meter.cost(to_int8(model, other)).pixels < 0.6


def test_mse_clips_a_lonely_outlier():
    histogram, edges = np.zeros(2000), np.linspace(-10, 10, 2001)
    histogram[900:1100] = 1000
    histogram[-1] = 0.001
    assert _mse_range(histogram, edges) == pytest.approx((-2, 2))  # a fifth is the tightest tried
    assert _mse_range(np.ones(3), np.zeros(4)) == (0.0, 0.0)


def test_record_round_trip(record, tmp_path):
    record.save(tmp_path / "r.json")
    assert CalibrationRecord.load(tmp_path / "r.json") == record
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["digest"] == record.digest
    assert len(content["images"]) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(method="minmax"), "was changed"),
        (lambda c: c.update(extra=1), "not a valid calibration record: unknown key 'extra'"),
        (lambda c: c.pop("ranges"), "key 'ranges' is missing"),
        (lambda c: c.pop("digest"), "was changed"),
        (lambda c: c.update(percentile=0), "percentile: expected float > 0"),
        (lambda c: c["ranges"].update(x=[1]), "list of length 2, got 1"),
        (lambda c: c["ranges"].update(x=[0, float("nan")]), r"ranges.x\[1\]: nan is not a finite"),
    ],
)
def test_changed_records_are_refused(record, tmp_path, change, message):
    record.save(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    change(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=message):
        CalibrationRecord.load(tmp_path / "r.json")


def test_too_few_faces(model, faces):
    few = CalibrationFaces(faces.images[:5], faces.sources[:5], faces.landmarks[:5])
    with pytest.raises(BadInput, match="5 faces were found for calibration, 32 are needed"):
        calibrate(model, few, "ict")
    with pytest.raises(BadInput, match="unknown calibration method"):
        calibrate(model, faces, "ict", "entropy")
    for percentile in (0.0, 101.0, float("nan")):
        with pytest.raises(BadInput, match="percentile: "):
            calibrate(model, faces, "ict", "percentile", percentile)


def test_folder_with_labels_uses_their_boxes(tmp_path):
    folder = write_aflw2000(tmp_path / "set")
    found = folder_faces(
        folder, 128, ["image00001", "image00003", "absent"], landmark_labels(folder)
    )
    assert [name for name, _ in found.sources] == ["image00001.jpg", "image00003.jpg"]
    assert found.images.shape == (2, 3, 128, 128)
    spread = np.ptp(found.landmarks, axis=1).max(axis=1)
    assert spread == pytest.approx(1 / np.sqrt(2), abs=1e-3)


@pytest.mark.slow
def test_sensitivity_and_unreachable_budget(model, record, meter, tmp_path):
    table = costs.sensitivity(model, record, meter)
    assert list(table) == layers(model)
    assert max(c.pixels for c in table.values()) > 0.01
    costs.write_table(table, tmp_path / "s.md")
    costs.plot_table(table, tmp_path / "s.png")
    assert (tmp_path / "s.md").read_text().count("\n") == 2 + len(table)
    with pytest.raises(BudgetMissed, match=r"out of reach: best .* px with \d+ layers in float"):
        costs.meet_budget(model, record, meter, costs.Budget(pixels=1e-4))
    whole = meter.cost(to_int8(model, record)).pixels
    kept, cost, _ = costs.meet_budget(model, record, meter, costs.Budget(pixels=0.97 * whole))
    assert kept
    assert cost.pixels <= 0.97 * whole
