"""``posgan-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from posgan_edge.cli.groups import takes
from posgan_edge.cli.options import (
    DrawingOptions,
    EngineOptions,
    FaceOptions,
    SourceOptions,
)
from posgan_edge.cli.run_outputs import OutputOptions
from posgan_edge.cli.run_shared import Asked, Job, conclude, opened


@click.command()
@takes(SourceOptions, OutputOptions, FaceOptions, EngineOptions, DrawingOptions)
def command(*groups: Any) -> None:
    """Find faces and draw them or write them to files.

    SOURCE is a picture or its web address, a folder or zip archive of pictures, a pattern
    ('photos/**/*.jpg') or a list (@list.txt), a video file, frame-%04d.png, a camera's number,
    /dev/videoN, csi://N, rtsp://, http://, - (raw frames) or synthetic: (a moving portrait).
    Several cameras and streams run together.
    """
    asked = Asked(*groups)
    pictures = asked.source.check()
    asked.output.check()
    asked.faces.boxes()
    with ExitStack() as stack:
        job = _job(asked, pictures, stack)
        sinks = asked.output.sinks(job.outputs, job.sources, stack)
        summaries = job.run(opened(asked, sinks, stack), stack)
    job.report(summaries)
    conclude(summaries, asked.output)
    job.check(summaries)


def _job(asked: Asked, pictures: bool, stack: ExitStack) -> Job:
    if pictures:
        from posgan_edge.cli.pictures import PictureJob

        return PictureJob(asked, stack)
    from posgan_edge.cli.cameras import CameraJob

    return CameraJob(asked, stack)
