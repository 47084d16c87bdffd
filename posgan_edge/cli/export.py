"""``posgan-edge export``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from posgan_edge.engines.manifest import has_manifest
from posgan_edge.errors import BadInput, UsageError, missing
from posgan_edge.files import check_output
from posgan_edge.geometry.layout import load_layout

#: Value of ``--landmarks`` given without a file.
_IN_THE_GRAPH = "-"


@click.command()
@click.option("--model", required=True, help="Checkpoint file, or 'edge'.")
@click.option("--output", required=True, help="ONNX file to write.")
@click.option("--landmarks", metavar="[FILE]", is_flag=False, flag_value=_IN_THE_GRAPH,
              help="Also output the 68 landmarks (N, 68, 3). With FILE: write their places on the "
              "map and the crop convention as JSON instead.")  # fmt: skip
@click.option(
    "--landmark-set",
    type=click.Choice(["aflw", "300w"]),
    default="aflw",
    show_default=True,
    help="Which landmarks --landmarks gives.",
)
@click.option("--safetensors", default=None, help="Also write the weights as safetensors here.")
def command(
    model: str, output: str, landmarks: str | None, landmark_set: str, safetensors: str | None
) -> None:
    """Turn a generator into one ONNX file (image -> position_map, dynamic batch)."""
    try:
        from posgan_edge.build.export import export_onnx
        from posgan_edge.build.landmark_table import save_landmark_table
        from posgan_edge.models.checkpoints import load_generator, save_safetensors
        from posgan_edge.models.registry import count_macs, count_parameters, name_of
    except ImportError as error:
        raise missing("PyTorch", "exporting", "export") from error
    if Path(output).suffix != ".onnx":
        raise BadInput(f"{output}: the output must end in .onnx")
    check_output(output, b"position_map")
    if has_manifest(output):
        raise UsageError(f"{output}: is an engine with a manifest: give another name")
    if safetensors is not None:
        check_output(safetensors, b"posgan_edge.generator")
    table = landmarks if landmarks != _IN_THE_GRAPH else None
    if table is not None and check_output(table, b"landmark table").suffix != ".json":
        raise BadInput(f"{table}: the landmark table must end in .json")
    for written in filter(None, (output, table, safetensors)):
        if os.path.isfile(model) and os.path.exists(written) and os.path.samefile(model, written):
            raise UsageError(f"{written}: is the model that is exported: give another name")
    if len({os.path.realpath(p) for p in (output, table, safetensors) if p is not None}) < sum(
        p is not None for p in (output, table, safetensors)
    ):
        raise UsageError("two outputs have one name: give another")
    generator = load_generator(model)
    layout = load_layout(generator.layout).with_landmarks(landmark_set)
    difference = export_onnx(
        generator, output, landmarks == _IN_THE_GRAPH, landmark_set=landmark_set
    )
    click.echo(
        f"{output}: {name_of(generator)}, layout {generator.layout}, "
        f"{count_parameters(generator) / 1e6:.2f} M parameters, "
        f"{count_macs(generator) / 1e6:.1f} M multiply-adds, "
        f"{Path(output).stat().st_size / 1e6:.1f} MB, "
        f"largest difference from PyTorch {difference:.1e} of the crop's side"
    )
    if table is not None:
        save_landmark_table(table, layout, generator.input_size, generator.map_size)
        click.echo(f"{table}: 68 landmarks of layout {layout.name}")
    if safetensors is not None:
        save_safetensors(generator, safetensors)
        click.echo(f"{safetensors}: {Path(safetensors).stat().st_size / 1e6:.1f} MB")
