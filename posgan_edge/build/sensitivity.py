"""What INT8 costs, layer by layer, and which layers stay in float to meet a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import in_batches
from posgan_edge.build.calibration import CalibrationFaces, CalibrationRecord
from posgan_edge.build.graph import layers, props
from posgan_edge.build.int8 import to_int8
from posgan_edge.errors import BudgetMissed
from posgan_edge.evaluation.metrics import nme
from posgan_edge.files import replaced
from posgan_edge.geometry.layout import load_layout

if TYPE_CHECKING:
    import onnx

#: Pixels of which deviations are told.
PIXELS = 256
_AT_A_TIME = 8  # faces


@dataclass(frozen=True)
class Budget:
    """What a conversion may cost: NME in points, and mean deviation of the map in pixels of 256."""

    nme: float = 0.05
    pixels: float = 0.5


@dataclass(frozen=True)
class Cost:
    """What a conversion costs against FP32; ``nme`` is NaN without labels."""

    pixels: float
    nme: float

    def within(self, budget: Budget) -> bool:
        return self.pixels <= budget.pixels and not self.nme > budget.nme


class CostMeter:
    """Measures conversions of one FP32 model on the same faces.

    Runs the graphs without ONNX Runtime's optimisations: those change INT8 arithmetic (and are
    wrong for FP16 with Q/DQ), while TensorRT's follows the graph as it is written.
    """

    def __init__(self, model: onnx.ModelProto, faces: CalibrationFaces) -> None:
        self.faces, self.layout = faces, load_layout(props(model)["layout"])
        self.reference = self._run(model)
        self.reference_nme = self._nme(self.reference)

    def cost(self, model: onnx.ModelProto) -> Cost:
        maps = self._run(model)
        pixels = float(np.abs(maps - self.reference).mean() * PIXELS)
        return Cost(pixels, self._nme(maps) - self.reference_nme)

    def _run(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return in_batches(
            lambda images: session.run(["position_map"], {"image": images})[0],
            self.faces.images,
            _AT_A_TIME,
        )

    def _nme(self, maps: NDArray[np.float32]) -> float:
        points = self.layout.landmarks(maps)
        errors = [
            nme(found, truth)
            for found, truth in zip(points, self.faces.landmarks, strict=True)
            if np.isfinite(truth).all()
        ]
        return float(np.mean(errors)) if errors else float("nan")


def sensitivity(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    meter: CostMeter,
    on_layer: Callable[[int, int], None] | None = None,
    target: str = "tensorrt",
) -> dict[str, Cost]:
    """The cost of each layer when it alone is quantised, in the graph for ``target``."""
    names = layers(model)
    costs = {}
    for index, name in enumerate(names):
        costs[name] = meter.cost(to_int8(model, record, target=target, compact=False, only=[name]))
        if on_layer is not None:
            on_layer(index + 1, len(names))
    return costs


def meet_budget(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    meter: CostMeter,
    budget: Budget,
    keep: Sequence[str] = (),
    on_layer: Callable[[int, int], None] | None = None,
    target: str = "tensorrt",
) -> tuple[list[str], Cost, dict[str, Cost]]:
    """Layers to keep in float, the cost that is left, and the sensitivity table if one was made.

    Layers join in order of their sensitivity until the budget is met. Raises BudgetMissed, naming
    the best found, when it is not met even with half of the layers in float.
    """
    kept = list(keep)
    cost = meter.cost(to_int8(model, record, kept, target))
    if cost.within(budget):
        return kept, cost, {}
    table = sensitivity(model, record, meter, on_layer, target)
    order = sorted((n for n in table if n not in kept), key=lambda n: -table[n].pixels)
    best = (cost, list(kept))
    for name in order[: len(order) // 2]:
        kept.append(name)
        cost = meter.cost(to_int8(model, record, kept, target))
        if cost.within(budget):
            return kept, cost, table
        if cost.pixels < best[0].pixels:
            best = (cost, list(kept))
    raise BudgetMissed(
        f"budget of +{budget.nme} NME points and {budget.pixels} px is out of reach: best "
        f"{best[0].nme:+.3f} points and {best[0].pixels:.2f} px with {len(best[1])} layers in float"
    )


def write_table(costs: dict[str, Cost], path: str | Path) -> None:
    """The sensitivity table as Markdown, in the network's order."""
    lines = ["| layer | map, px of 256 | NME, points |", "|---|---:|---:|"]
    lines += [f"| `{n}` | {c.pixels:.4f} | {c.nme:+.4f} |" for n, c in costs.items()]
    with replaced(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def plot_table(costs: dict[str, Cost], path: str | Path) -> None:
    """The sensitivity of each layer as bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.bar(range(len(costs)), [c.pixels for c in costs.values()], color="#3b76b0")
    axes.set_xticks(range(len(costs)), list(costs), rotation=90, fontsize=6)
    axes.set_ylabel("map deviation, px of 256")
    axes.set_title("one layer in INT8 at a time")
    with replaced(path) as temporary:
        figure.savefig(temporary)
