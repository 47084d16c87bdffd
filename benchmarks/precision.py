"""FP32, FP16 and INT8 of a model: NME on AFLW2000-3D, size, and cost against FP32.

    python benchmarks/precision.py --dataset AFLW2000_DIR [--model MODEL] [--json F] [--markdown F]

INT8 is calibrated on the faces of calibration/aflw2000-3d.txt, and all precisions are scored on
the other faces. "int8" is the Q/DQ graph as TensorRT follows it (run without ONNX Runtime's
optimisations); "int8, onnxruntime" is what build-engine makes for ONNX Runtime, as it runs there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from posgan_edge.build.calibration import calibrate, folder_faces
from posgan_edge.build.engine import latency_ratio, source_model
from posgan_edge.build.fp16 import to_fp16
from posgan_edge.build.graph import props, sizes
from posgan_edge.build.int8 import to_int8
from posgan_edge.engines import Engine, load_engine
from posgan_edge.evaluation.aflw2000 import landmark_labels, load_aflw2000
from posgan_edge.evaluation.scoring import Prediction, predict_from_labels, score
from posgan_edge.evaluation.stability import deviation
from posgan_edge.files import read_names
from posgan_edge.progress import silent
from posgan_edge.system import machine_block

SPLIT = Path(__file__).parents[1] / "calibration" / "aflw2000-3d.txt"


class PlainEngine(Engine):
    """Runs the graph without ONNX Runtime's optimisations."""

    def __init__(self, path: Path) -> None:
        with load_engine(path) as engine:
            self.info = engine.info
        import onnxruntime as ort  # after the package, which switches its reports off

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (maps,) = self.session.run(["position_map"], {"image": images})
        return np.asarray(maps, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--model", default="edge", help="shipped name, ONNX file or checkpoint")
    parser.add_argument("--limit", type=int, help="score this many faces only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    source = source_model(options.model, silent)
    split = read_names(SPLIT) or []
    faces = [f for f in load_aflw2000(options.dataset) if f.name not in set(split)]
    faces = faces[: options.limit]
    calibration = folder_faces(
        options.dataset, sizes(source)[0], split, landmark_labels(options.dataset)
    )
    record = calibrate(source, calibration, props(source)["layout"], "mse")
    models: dict[str, tuple[onnx.ModelProto, Callable[[Path], Engine]]] = {
        "fp32": (source, load_engine),
        "fp16": (to_fp16(source), load_engine),
        "int8": (to_int8(source, record), PlainEngine),
        "int8, onnxruntime": (to_int8(source, record, target="onnxruntime"), load_engine),
    }
    rows: dict[str, Any] = {}
    reference: list[Prediction | None] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, loader) in models.items():
            file = Path(folder) / f"{name}.onnx"
            file.write_bytes(model.SerializeToString())
            predictions = list(predict_from_labels(loader(file), faces))
            reference = reference or predictions
            scores = score(faces, predictions)
            off = deviation(predictions, reference)
            rows[name] = {
                "megabytes": file.stat().st_size / 1e6,
                "deviation_px": off.mean if off else float("nan"),
                "latency_ratio": latency_ratio(source, model),
                **{k: v.mean for k, v in scores.labels.items()},
            }
            print(name, {k: round(v, 4) for k, v in rows[name].items()}, flush=True)
    document = {
        "machine": machine_block(),
        "model": Path(options.model).name,
        "weights_sha256": props(source).get("weights_sha256"),
        "calibration_faces": len(calibration.images),
        "scored_faces": len(faces),
        "precisions": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(table(document))


def table(document: dict[str, Any]) -> str:
    """Returns the results as a Markdown table."""
    base = document["precisions"]["fp32"]
    lines = [
        "| precision | NME original | re-annotated | difference from FP32 | deviation, px | MB "
        "| time / FP32 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in document["precisions"].items():
        delta = np.array([row[k] - base[k] for k in ("original", "reannotated")])
        lines.append(
            f"| {name} | {row['original']:.3f} | {row['reannotated']:.3f} | "
            f"{delta[0]:+.3f} / {delta[1]:+.3f} | {row['deviation_px']:.3f} | "
            f"{row['megabytes']:.2f} | "
            f"{row['latency_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
