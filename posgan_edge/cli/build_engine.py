"""``posgan-edge build-engine``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from posgan_edge.errors import BadInput


@click.command()
@click.option("--model", default="edge", show_default=True, help="Shipped name, ONNX, checkpoint.")
@click.option("--output", required=True, type=Path, help="Engine file; its manifest is beside it.")
@click.option("--recipe", type=Path, help="YAML file of these options (see export/).")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32",
              show_default=True)  # fmt: skip
@click.option("--target", type=click.Choice(["onnxruntime", "tensorrt", "tensorrt-rtx"]),
              default="onnxruntime", show_default=True)  # fmt: skip
@click.option("--calibration", type=Path, help="Record made by posgan-edge calibrate.")
@click.option("--calibration-images", type=Path, help="Faces to calibrate and to judge on.")
@click.option("--calibration-names", type=Path, help="File of names to take, one per line.")
@click.option("--method", type=click.Choice(["minmax", "percentile", "mse"]), default="mse",
              show_default=True)  # fmt: skip
@click.option("--keep-fp16", default="", metavar="REGEX", help="Layers that stay in float.")
@click.option("--max-nme", default=0.05, show_default=True, help="Budget: NME points over FP32.")
@click.option("--max-pixels", default=0.5, show_default=True, help="Budget: mean px of 256.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 8))
@click.option("--workspace", default=0, type=click.IntRange(0), help="MiB; 0 leaves it open.")
@click.option("--compute-capability", default="", metavar="CC", help="As 8.9; tensorrt-rtx only.")
@click.option("--timing-cache", type=Path, help="Read and written; tensorrt only.")
@click.option("--fp16-io", is_flag=True, help="Inputs and outputs in FP16 too (onnxruntime).")
@click.option("--even-if-slower", is_flag=True,
              help="Keep INT8 on onnxruntime where FP32 is faster on this machine.")  # fmt: skip
@click.pass_context
def command(context: click.Context, /, recipe: Path | None, **options: Any) -> None:
    """Build an engine: export, conversion, calibration and building, as needed."""
    from posgan_edge.build.engine import BuildRequest, build_engine
    from posgan_edge.build.sensitivity import Budget
    from posgan_edge.build.tensorrt import PlanOptions
    from posgan_edge.cli.progress import reporting
    from posgan_edge.files import read_names

    if recipe is not None:
        _apply_recipe(context, recipe, options)
    request = BuildRequest(
        model=options["model"],
        output=options["output"],
        precision=options["precision"],
        target=options["target"],
        record=options["calibration"],
        images=options["calibration_images"],
        names=read_names(options["calibration_names"]),
        method=options["method"],
        keep_float=options["keep_fp16"],
        budget=Budget(options["max_nme"], options["max_pixels"]),
        plan=PlanOptions(options["batch"], options["workspace"], options["compute_capability"]),
        timing_cache=options["timing_cache"],
        fp16_io=options["fp16_io"],
        faster_only=not options["even_if_slower"],
        command=shlex.join(["posgan-edge", *sys.argv[1:]]),
    )
    with reporting() as report:
        manifest = build_engine(request, report)
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
        click.echo(
            f"cost against FP32 on {cost['faces']:.0f} faces: {cost['pixels']:.3f} px of 256, "
            f"{cost['nme_points']:+.3f} NME points{kept}"
        )


def _apply_recipe(context: click.Context, recipe: Path, options: dict[str, Any]) -> None:
    """Fills options that the command line does not give. Raises BadInput on an unknown key."""
    try:
        import yaml
    except ImportError as error:
        from posgan_edge.errors import missing

        raise missing("PyYAML", "reading recipes", "export") from error
    try:
        content = yaml.safe_load(recipe.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{recipe}: not a recipe: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{recipe}: a recipe is a mapping of options to values")
    parameters = {p.name: p for p in context.command.params}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in parameters or name in ("recipe", "output"):
            raise BadInput(f"{recipe}: unknown key {key!r}")
        if context.get_parameter_source(name) is ParameterSource.DEFAULT:
            options[name] = parameters[name].type_cast_value(context, value)
