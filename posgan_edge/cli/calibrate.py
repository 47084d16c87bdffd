"""``posgan-edge calibrate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from posgan_edge.cli.groups import Finite, Group, option, takes


@dataclass(frozen=True)
class CalibrationOptions(Group):
    """Which model is calibrated on which faces, and how."""

    # fmt: off
    model: str = option("--model", default="edge", show_default=True,
        help="Shipped name, ONNX, checkpoint.")
    images: str = option("--images", required=True,
        help="Folder of pictures; faces come from .mat labels or the detector.")
    names: Path | None = option("--names", type=Path,
        help="File of names to take, one per line (a split).")
    method: str = option("--method", type=click.Choice(["minmax", "percentile", "mse"]),
        default="mse", show_default=True,
        help="Range: smallest and largest value, without the tails, or least INT8 error.")
    percentile: float = option("--percentile", default=99.99, show_default=True, type=Finite(),
        help="Share of values, in percent, that --method percentile keeps.")
    output: Path = option("--output", required=True, type=Path,
        help="Calibration record (JSON) to write.")
    sensitivity: Path | None = option("--sensitivity", type=Path,
        help="Folder for a table and a plot of the cost of each layer.")
    # fmt: on


@click.command()
@takes(CalibrationOptions)
def command(asked: CalibrationOptions) -> None:
    """Measure INT8 ranges on real faces and write them to a record."""
    from posgan_edge.build import calibration
    from posgan_edge.build import sensitivity as costs
    from posgan_edge.build.engine import source_model
    from posgan_edge.build.graph import props, sizes
    from posgan_edge.build.int8 import check_opset
    from posgan_edge.cli.progress import reporting
    from posgan_edge.evaluation.aflw2000 import landmark_labels
    from posgan_edge.files import check_output, read_names

    calibration.check_method(asked.method, asked.percentile)
    check_output(asked.output, b'"ranges"')
    if asked.sensitivity is not None:
        costs.check_plot()
        check_output(asked.sensitivity / "sensitivity.md", b"| layer | map, px of 256 |")
        check_output(asked.sensitivity / "sensitivity.png", b"Matplotlib")
    with reporting() as progress:
        source = source_model(asked.model, progress)
        if asked.sensitivity is not None:
            check_opset(source)
        faces = calibration.folder_faces(
            asked.images,
            sizes(source)[0],
            read_names(asked.names),
            landmark_labels(asked.images),
            progress,
        )
        layout = props(source)["layout"]
        record = calibration.calibrate(
            source, faces, layout, asked.method, asked.percentile, progress
        )
        record.save(asked.output)
        if asked.sensitivity is not None:
            meter = costs.CostMeter(source, faces)
            table = costs.sensitivity(source, record, meter, progress)
            costs.write_table(table, asked.sensitivity / "sensitivity.md")
            costs.plot_table(table, asked.sensitivity / "sensitivity.png")
    click.echo(
        f"{asked.output}: {len(record.ranges)} ranges by {record.method} from {len(record.images)} "
        f"faces, digest {record.digest[:12]}"
        + (f"; {len(faces.unreadable)} pictures could not be read" if faces.unreadable else "")
    )
