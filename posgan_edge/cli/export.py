"""``posgan-edge export``."""

from __future__ import annotations

from pathlib import Path

import click

from posgan_edge.errors import BadInput, missing


@click.command()
@click.option("--model", required=True, help="Checkpoint file, or 'edge'.")
@click.option("--output", required=True, help="ONNX file to write.")
@click.option("--landmarks", is_flag=True, help="Also output the 68 landmarks (N, 68, 3).")
@click.option("--safetensors", default=None, help="Also write the weights as safetensors here.")
def command(model: str, output: str, landmarks: bool, safetensors: str | None) -> None:
    """Turn a generator into one ONNX file (image -> position_map, dynamic batch)."""
    try:
        from posgan_edge.build.export import export_onnx
        from posgan_edge.models.checkpoints import load_generator, save_safetensors
        from posgan_edge.models.registry import count_macs, count_parameters, name_of
    except ImportError as error:
        raise missing("PyTorch", "exporting", "export") from error
    if Path(output).suffix != ".onnx":
        raise BadInput(f"{output}: the output must end in .onnx")
    generator = load_generator(model)
    difference = export_onnx(generator, output, landmarks)
    click.echo(
        f"{output}: {name_of(generator)}, layout {generator.layout}, "
        f"{count_parameters(generator) / 1e6:.2f} M parameters, "
        f"{count_macs(generator) / 1e6:.1f} M multiply-adds, "
        f"{Path(output).stat().st_size / 1e6:.1f} MB, "
        f"largest difference from PyTorch {difference:.1e} of the crop's side"
    )
    if safetensors is not None:
        save_safetensors(generator, safetensors)
        click.echo(f"{safetensors}: {Path(safetensors).stat().st_size / 1e6:.1f} MB")
