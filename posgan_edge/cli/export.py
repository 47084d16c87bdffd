"""``posgan-edge export``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from posgan_edge.cli.groups import Group, option, takes
from posgan_edge.engines.manifest import has_manifest
from posgan_edge.errors import BadInput, UsageError, needing
from posgan_edge.files import check_output
from posgan_edge.geometry.layout import load_layout

#: Value of ``--landmarks`` given without a file.
_IN_THE_GRAPH = "-"


@dataclass(frozen=True)
class ExportOptions(Group):
    """Which generator is exported, and what is written."""

    # fmt: off
    model: str = option("--model", required=True, help="Checkpoint file, or 'edge'.")
    output: str = option("--output", required=True, help="ONNX file to write.")
    landmarks: str | None = option("--landmarks", metavar="[FILE]", is_flag=False,
        flag_value=_IN_THE_GRAPH, help="Also output the 68 landmarks (N, 68, 3). With FILE: write "
        "their places on the map and the crop convention as JSON instead.")
    landmark_set: str = option("--landmark-set", type=click.Choice(["aflw", "300w"]),
        default="aflw", show_default=True, help="Which landmarks --landmarks gives.")
    safetensors: str | None = option("--safetensors",
        help="Also write the weights as safetensors here.")
    # fmt: on

    @property
    def table(self) -> str | None:
        """The file of the landmark table; None if none is asked for."""
        return None if self.landmarks == _IN_THE_GRAPH else self.landmarks

    def check(self) -> None:
        """Raises BadInput and UsageError if an output cannot be written, or would replace a file
        that is not from an earlier call."""
        if Path(self.output).suffix != ".onnx":
            raise BadInput(f"{self.output}: the output must end in .onnx")
        check_output(self.output, b"position_map")
        if has_manifest(self.output):
            raise UsageError(f"{self.output}: is an engine with a manifest: give another name")
        if self.safetensors is not None:
            check_output(self.safetensors, b"posgan_edge.generator")
        table, model = self.table, self.model
        if table is not None and check_output(table, b"landmark table").suffix != ".json":
            raise BadInput(f"{table}: the landmark table must end in .json")
        outputs = [path for path in (self.output, table, self.safetensors) if path is not None]
        for path in outputs:
            if os.path.isfile(model) and os.path.exists(path) and os.path.samefile(model, path):
                raise UsageError(f"{path}: is the model that is exported: give another name")
        if len(set(map(os.path.realpath, outputs))) < len(outputs):
            raise UsageError("two outputs have one name: give another")


@click.command()
@takes(ExportOptions)
def command(asked: ExportOptions) -> None:
    """Turn a generator into one ONNX file (image -> position_map, dynamic batch)."""
    with needing("PyTorch", "exporting", "export"):
        from posgan_edge.build.export import export_onnx
        from posgan_edge.build.landmark_table import save_landmark_table
        from posgan_edge.models.checkpoints import load_generator, save_safetensors
        from posgan_edge.models.registry import count_macs, count_parameters, name_of
    asked.check()
    output, table, safetensors = asked.output, asked.table, asked.safetensors
    generator = load_generator(asked.model)
    layout = load_layout(generator.layout).with_landmarks(asked.landmark_set)
    difference = export_onnx(
        generator, output, asked.landmarks == _IN_THE_GRAPH, landmark_set=asked.landmark_set
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
