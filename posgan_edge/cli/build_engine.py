"""``posgan-edge build-engine``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from posgan_edge.cli.groups import Finite, Group, option, takes
from posgan_edge.errors import UsageError

if TYPE_CHECKING:
    from posgan_edge.build.engine import BuildRequest

#: Option to name in an error, for each field that a UsageError can name.
_FLAGS = {
    "record": "--calibration RECORD",
    "images": "--calibration-images DIR",
    "compute_capability": "--compute-capability",
    "batch": "--batch",
    "tuned_for": "--tuned-for",
    "workspace": "--workspace",
    "timing_cache": "--timing-cache",
    "fp16_io": "--fp16-io",
}


@dataclass(frozen=True)
class BuildOptions(Group):
    """What is built from what. The fields are the keys of a recipe."""

    # fmt: off
    recipe: Path | None = option("--recipe", type=Path,
        help="YAML file of these options (see export/).")
    model: str = option("--model", default="edge", show_default=True,
        help="Shipped name, ONNX, checkpoint.")
    output: Path = option("--output", required=True, type=Path,
        help="Engine file; its manifest is written beside it.")
    precision: str = option("--precision", type=click.Choice(["fp32", "fp16", "int8"]),
        default="fp32", show_default=True, help="Numbers that the network computes with.")
    target: str = option("--target", default="onnxruntime", show_default=True,
        type=click.Choice(["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]),
        help="Runtime that the engine is for.")
    calibration: Path | None = option("--calibration", type=Path,
        help="Record made by posgan-edge calibrate.")
    calibration_images: Path | None = option("--calibration-images", type=Path,
        help="Faces to calibrate on and to measure the cost on.")
    calibration_names: Path | None = option("--calibration-names", type=Path,
        help="File of names to take, one per line.")
    method: str = option("--method", type=click.Choice(["minmax", "percentile", "mse"]),
        default="mse", show_default=True, help="How ranges are chosen; see calibrate.")
    keep_fp16: str = option("--keep-fp16", default="", metavar="REGEX",
        help="Layers that stay in float.")
    max_nme: float = option("--max-nme", default=0.05, show_default=True, type=Finite(0),
        help="Budget: NME in points above FP32.")
    max_pixels: float = option("--max-pixels", default=0.5, show_default=True, type=Finite(0),
        help="Budget: mean deviation in px of 256.")
    batch: int = option("--batch", default=1, show_default=True, type=click.IntRange(1, 8),
        help="Largest batch, in faces; TensorRT only.")
    tuned_for: int = option("--tuned-for", default=1, show_default=True, type=click.IntRange(1, 8),
        help="Batch whose speed matters most; TensorRT only.")
    workspace: int = option("--workspace", default=0, type=click.IntRange(0),
        help="MiB for the builder; 0: no limit; TensorRT only.")
    compute_capability: str = option("--compute-capability", default="", metavar="CC",
        help="For example 8.9; tensorrt-rtx only.")
    timing_cache: Path | None = option("--timing-cache", type=Path,
        help="Read and written; tensorrt only.")
    fp16_io: bool = option("--fp16-io", is_flag=True,
        help="Inputs and outputs in FP16 too (onnxruntime).")
    even_if_slower: bool = option("--even-if-slower", is_flag=True,
        help="Keep INT8 on onnxruntime and openvino if FP32 is faster here.")
    sign: Path | None = option("--sign", type=Path, metavar="KEY",
        help="Sign the manifest: Ed25519 key, PEM.")
    # fmt: on

    def request(self) -> BuildRequest:
        """Returns what the library is asked to build. Raises BadInput for a file that cannot be
        read."""
        from posgan_edge.build.engine import BuildRequest
        from posgan_edge.build.sensitivity import Budget
        from posgan_edge.build.tensorrt import PlanOptions
        from posgan_edge.evaluation.aflw2000 import landmark_labels
        from posgan_edge.files import read_names

        images, capability = self.calibration_images, self.compute_capability
        return BuildRequest(
            model=self.model,
            output=self.output,
            precision=self.precision,
            target=self.target,
            record=self.calibration,
            images=images,
            labels=landmark_labels(images) if images is not None else {},
            names=read_names(self.calibration_names),
            method=self.method,
            keep_float=self.keep_fp16,
            budget=Budget(self.max_nme, self.max_pixels),
            plan=PlanOptions(self.batch, self.workspace, capability, tuned_for=self.tuned_for),
            timing_cache=self.timing_cache,
            fp16_io=self.fp16_io,
            faster_only=not self.even_if_slower,
            sign=self.sign,
            command=shlex.join(["posgan-edge", *sys.argv[1:]]),
        )


@click.command()
@takes(BuildOptions)
def command(asked: BuildOptions) -> None:
    """Build an engine: export, convert, calibrate and build, as far as needed."""
    from posgan_edge.build.engine import build_engine
    from posgan_edge.cli.progress import reporting

    request = (asked if asked.recipe is None else _with_recipe(asked, asked.recipe)).request()
    try:
        with reporting() as progress:
            manifest = build_engine(request, progress)
    except UsageError as error:
        raise _with_flags(error) from error
    size = request.output.stat().st_size / 1e6
    click.echo(
        f"{request.output}: {manifest.precision} for {manifest.runtime} "
        f"{manifest.runtime_version}, {size:.1f} MB, {manifest.build_seconds:.1f} s"
    )
    if manifest.precision != request.precision:
        ratio = manifest.accuracy["int8_latency_ratio"]
        click.echo(
            f"INT8 takes {ratio:.2f} times as long as FP32 on this processor, so FP32 was kept; "
            "--even-if-slower builds INT8 all the same"
        )
    elif "pixels" in manifest.accuracy:
        cost = manifest.accuracy
        kept = f", {len(manifest.kept_float)} layers in float" if manifest.kept_float else ""
        points = cost["nme_points"]
        click.echo(
            f"cost against FP32 on {cost['faces']:.0f} faces: {cost['pixels']:.3f} px of 256, "
            f"NME {'not measured' if points is None else f'{points:+.3f} points'}{kept}"
        )


def _with_recipe(asked: BuildOptions, recipe: Path) -> BuildOptions:
    """Takes from the recipe the options that the command line does not set."""
    from posgan_edge.build.recipe import load_build_recipe

    context, loaded = click.get_current_context(), load_build_recipe(recipe)
    parameters = {p.name: p for p in context.command.params}
    values = {name: getattr(loaded, name) for name in loaded.__struct_fields__}
    given = {
        name: parameters[name].type_cast_value(context, value)
        for name, value in values.items()
        if value is not None and context.get_parameter_source(name) is ParameterSource.DEFAULT
    }
    return replace(asked, **given)


def _with_flags(error: UsageError) -> UsageError:
    """Returns the error with the options that it is about."""
    flags = [_FLAGS[field] for field in error.fields if field in _FLAGS]
    return UsageError(f"{error}: see {' or '.join(flags)}" if flags else str(error))
