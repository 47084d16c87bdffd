"""``posgan-edge calibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from posgan_edge.cli.groups import Finite


@click.command()
@click.option("--model", default="edge", show_default=True, help="Shipped name, ONNX, checkpoint.")
@click.option(
    "--images",
    required=True,
    help="Folder of pictures; faces come from .mat labels or the detector.",
)
@click.option("--names", type=Path, help="File of names to take, one per line (a split).")
@click.option("--method", type=click.Choice(["minmax", "percentile", "mse"]), default="mse",
              show_default=True)  # fmt: skip
@click.option("--percentile", default=99.99, show_default=True, type=Finite())
@click.option("--output", required=True, type=Path, help="Calibration record (JSON) to write.")
@click.option(
    "--sensitivity", type=Path, help="Folder for a table and a plot of the cost of each layer."
)
def command(
    model: str,
    images: str,
    names: Path | None,
    method: str,
    percentile: float,
    output: Path,
    sensitivity: Path | None,
) -> None:
    """Measure INT8 ranges on real faces and write them to a record."""
    from posgan_edge.build import calibration
    from posgan_edge.build import sensitivity as costs
    from posgan_edge.build.engine import source_model
    from posgan_edge.build.graph import props, sizes
    from posgan_edge.cli.progress import reporting
    from posgan_edge.evaluation.aflw2000 import landmark_labels
    from posgan_edge.files import check_output, read_names

    calibration.check_method(method, percentile)
    check_output(output, b'"ranges"')
    if sensitivity is not None:
        costs.check_plot()
        check_output(sensitivity / "sensitivity.md", b"| layer | map, px of 256 |")
        check_output(sensitivity / "sensitivity.png", b"Matplotlib")
    with reporting() as progress:
        source = source_model(model, progress)
        faces = calibration.folder_faces(
            images, sizes(source)[0], read_names(names), landmark_labels(images), progress
        )
        layout = props(source)["layout"]
        record = calibration.calibrate(source, faces, layout, method, percentile, progress)
        record.save(output)
        if sensitivity is not None:
            meter = costs.CostMeter(source, faces)
            table = costs.sensitivity(source, record, meter, progress)
            costs.write_table(table, sensitivity / "sensitivity.md")
            costs.plot_table(table, sensitivity / "sensitivity.png")
    click.echo(
        f"{output}: {len(record.ranges)} ranges by {record.method} from {len(record.images)} "
        f"faces, digest {record.digest[:12]}"
        + (f"; {len(faces.unreadable)} pictures could not be read" if faces.unreadable else "")
    )
