"""The cost of INT8 by layer, and the choice of layers that stay in float to meet a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import in_batches
from posgan_edge.build.calibration import CalibrationFaces, CalibrationRecord
from posgan_edge.build.graph import layers, props
from posgan_edge.build.int8 import to_int8
from posgan_edge.errors import BadInput, BudgetMissed, needing
from posgan_edge.files import write_whole
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.metrics import nme
from posgan_edge.images import write_plot
from posgan_edge.progress import Progress, silent

if TYPE_CHECKING:
    import onnx

#: Deviations are in pixels of a map of this side.
PIXELS = 256
_AT_A_TIME = 8  # faces


@dataclass(frozen=True)
class Budget:
    """Largest cost of a conversion: NME in points, and mean deviation of the map in px of 256."""

    nme: float = 0.05
    pixels: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("nme", self.nme), ("pixels", self.pixels)):
            if not value >= 0:
                raise BadInput(f"budget: {name} = {value:g} is not a number of at least 0")


@dataclass(frozen=True)
class Cost:
    """Cost of a conversion compared with FP32: mean deviation in px of 256, and NME in points.

    ``nme`` is None without labels.
    """

    pixels: float
    nme: float | None

    def within(self, budget: Budget) -> bool:
        """Returns whether the cost is at most the budget; an unknown NME is ignored."""
        return self.pixels <= budget.pixels and (self.nme is None or self.nme <= budget.nme)

    @property
    def nme_text(self) -> str:
        """The NME as text for a message."""
        return "NME not measured" if self.nme is None else f"{self.nme:+.3f} points"


class CostMeter:
    """Measures conversions of one FP32 model on the same faces.

    Runs the graphs without ONNX Runtime's optimisations, because these change INT8 arithmetic and
    are wrong for FP16 with Q/DQ. TensorRT follows the graph as it is.
    """

    def __init__(self, model: onnx.ModelProto, faces: CalibrationFaces) -> None:
        self.faces, self.layout = faces, load_layout(props(model)["layout"])
        self.reference = self._run(model)
        self.reference_nme = self._nme(self.reference)

    def cost(self, model: onnx.ModelProto) -> Cost:
        """Returns the cost of a converted model."""
        maps = self._run(model)
        pixels = float(np.abs(maps - self.reference).mean() * PIXELS)
        found, reference = self._nme(maps), self.reference_nme
        return Cost(pixels, None if found is None or reference is None else found - reference)

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

    def _nme(self, maps: NDArray[np.float32]) -> float | None:
        points = self.layout.landmarks(maps)
        errors = [
            nme(found, truth)
            for found, truth in zip(points, self.faces.landmarks, strict=True)
            if np.isfinite(truth).all()
        ]
        return float(np.mean(errors)) if errors else None


def sensitivity(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    meter: CostMeter,
    progress: Progress = silent,
    target: str = "tensorrt",
) -> dict[str, Cost]:
    """Returns the cost of each layer if only that layer is INT8, in the graph for ``target``."""
    names = layers(model)
    costs = {}
    for index, name in enumerate(names):
        costs[name] = meter.cost(to_int8(model, record, target=target, compact=False, only=[name]))
        progress("sensitivity of each layer", index + 1, len(names))
    return costs


def meet_budget(
    model: onnx.ModelProto,
    record: CalibrationRecord,
    meter: CostMeter,
    budget: Budget,
    keep: Sequence[str] = (),
    progress: Progress = silent,
    target: str = "tensorrt",
) -> tuple[list[str], Cost, dict[str, Cost]]:
    """Returns the layers to keep in float, the remaining cost, and the sensitivity table.

    The most sensitive layers are added one by one until the budget is met. The table is empty if
    ``keep`` meets it already. Raises BudgetMissed, naming the best result, if half of the layers
    in float do not meet it.
    """
    kept = list(keep)
    cost = meter.cost(to_int8(model, record, kept, target))
    if cost.within(budget):
        return kept, cost, {}
    table = sensitivity(model, record, meter, progress, target)
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
        f"{best[0].nme_text} and {best[0].pixels:.2f} px with {len(best[1])} layers in float"
    )


def write_table(costs: dict[str, Cost], path: str | Path) -> None:
    """Writes the sensitivity table as Markdown, in the network's order."""
    lines = ["| layer | map, px of 256 | NME, points |", "|---|---:|---:|"]
    lines += [f"| `{n}` | {c.pixels:.4f} | {_points(c)} |" for n, c in costs.items()]
    write_whole(path, "\n".join(lines) + "\n")


def _points(cost: Cost) -> str:
    return "not measured" if cost.nme is None else f"{cost.nme:+.4f}"


def check_plot() -> None:
    """Raises MissingRuntime without matplotlib, which ``plot_table`` needs."""
    with needing("matplotlib", "drawing the sensitivity of layers", "benchmark"):
        import matplotlib  # noqa: F401


def plot_table(costs: dict[str, Cost], path: str | Path) -> None:
    """Draws the sensitivity of each layer as bars into a PNG."""

    def draw(axes: Any) -> None:
        axes.bar(range(len(costs)), [c.pixels for c in costs.values()], color="#3b76b0")
        axes.set_xticks(range(len(costs)), list(costs), rotation=90, fontsize=6)
        axes.set_ylabel("map deviation, px of 256")
        axes.set_title("one layer in INT8 at a time")

    write_plot(path, (9, 4), draw)
