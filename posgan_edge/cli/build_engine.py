"""``posgan-edge build-engine``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from posgan_edge.cli.groups import Finite
from posgan_edge.errors import UsageError

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


@click.command()
@click.option("--model", default="edge", show_default=True, help="Shipped name, ONNX, checkpoint.")
@click.option(
    "--output", required=True, type=Path, help="Engine file; its manifest is written beside it."
)
@click.option("--recipe", type=Path, help="YAML file of these options (see export/).")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32",
              show_default=True)  # fmt: skip
@click.option("--target", default="onnxruntime", show_default=True, type=click.Choice(
              ["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]))  # fmt: skip
@click.option("--calibration", type=Path, help="Record made by posgan-edge calibrate.")
@click.option(
    "--calibration-images", type=Path, help="Faces to calibrate on and to measure the cost on."
)
@click.option("--calibration-names", type=Path, help="File of names to take, one per line.")
@click.option("--method", type=click.Choice(["minmax", "percentile", "mse"]), default="mse",
              show_default=True)  # fmt: skip
@click.option("--keep-fp16", default="", metavar="REGEX", help="Layers that stay in float.")
@click.option(
    "--max-nme",
    default=0.05,
    show_default=True,
    type=Finite(0),
    help="Budget: NME in points above FP32.",
)
@click.option(
    "--max-pixels",
    default=0.5,
    show_default=True,
    type=Finite(0),
    help="Budget: mean deviation in px of 256.",
)
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 8))
@click.option("--tuned-for", default=1, show_default=True, type=click.IntRange(1, 8),
              help="Batch whose speed matters most; TensorRT only.")  # fmt: skip
@click.option(
    "--workspace",
    default=0,
    type=click.IntRange(0),
    help="MiB for the builder; 0: no limit; TensorRT only.",
)
@click.option(
    "--compute-capability", default="", metavar="CC", help="For example 8.9; tensorrt-rtx only."
)
@click.option("--timing-cache", type=Path, help="Read and written; tensorrt only.")
@click.option("--fp16-io", is_flag=True, help="Inputs and outputs in FP16 too (onnxruntime).")
@click.option("--even-if-slower", is_flag=True,
              help="Keep INT8 on onnxruntime and openvino if FP32 is faster here.")  # fmt: skip
@click.option("--sign", type=Path, metavar="KEY", help="Sign the manifest: Ed25519 key, PEM.")
@click.pass_context
def command(context: click.Context, /, recipe: Path | None, **options: Any) -> None:
    """Build an engine: export, convert, calibrate and build, as far as needed."""
    from posgan_edge.build.engine import BuildRequest, build_engine
    from posgan_edge.build.sensitivity import Budget
    from posgan_edge.build.tensorrt import PlanOptions
    from posgan_edge.cli.progress import reporting
    from posgan_edge.evaluation.aflw2000 import landmark_labels
    from posgan_edge.files import read_names

    if recipe is not None:
        _apply_recipe(context, recipe, options)
    images = options["calibration_images"]
    request = BuildRequest(
        model=options["model"],
        output=options["output"],
        precision=options["precision"],
        target=options["target"],
        record=options["calibration"],
        images=images,
        labels=landmark_labels(images) if images is not None else {},
        names=read_names(options["calibration_names"]),
        method=options["method"],
        keep_float=options["keep_fp16"],
        budget=Budget(options["max_nme"], options["max_pixels"]),
        plan=PlanOptions(
            options["batch"],
            options["workspace"],
            options["compute_capability"],
            tuned_for=options["tuned_for"],
        ),
        timing_cache=options["timing_cache"],
        fp16_io=options["fp16_io"],
        faster_only=not options["even_if_slower"],
        sign=options["sign"],
        command=shlex.join(["posgan-edge", *sys.argv[1:]]),
    )
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


def _apply_recipe(context: click.Context, recipe: Path, options: dict[str, Any]) -> None:
    """Takes from the recipe the options that the command line does not set."""
    from posgan_edge.build.recipe import load_build_recipe

    loaded = load_build_recipe(recipe)
    parameters = {p.name: p for p in context.command.params}
    for name in loaded.__struct_fields__:
        value = getattr(loaded, name)
        if value is not None and context.get_parameter_source(name) is ParameterSource.DEFAULT:
            options[name] = parameters[name].type_cast_value(context, value)


def _with_flags(error: UsageError) -> UsageError:
    """Returns the error with the options that it is about."""
    flags = [_FLAGS[field] for field in error.fields if field in _FLAGS]
    return UsageError(f"{error}: see {' or '.join(flags)}" if flags else str(error))
