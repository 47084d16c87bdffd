"""``posgan-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.errors import BadInput, PosganError, UsageError

if TYPE_CHECKING:
    from posgan_edge.types import Face, FaceBox, Frame, Image
    from posgan_edge.vision.pipeline import FacePipeline


@dataclass(frozen=True)
class _Outputs:
    save: Path | None
    json: Path | None
    mesh: Path | None
    window: bool
    dense: bool
    scale: int


@click.command()
@click.option("--image", "images", multiple=True, help="Picture; may be given many times.")
@click.argument("more", nargs=-1, metavar="[IMAGE]...")
@click.option("--video", default=None, help="Video file.")
@click.option("--camera", default=None, help="Camera number, device path or stream URI.")
@click.option("--model", default="edge", show_default=True, help="Shipped name or model file.")
@click.option("--save", type=Path, help="Annotated picture, video, or folder for many pictures.")
@click.option("--json", "json_path", type=Path, help="JSON lines, one per frame.")
@click.option("--mesh", type=Path, help="OBJ or PLY of the first face (pictures only).")
@click.option("--max-faces", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--box", default=None, metavar="X,Y,W,H", help="Face box; no detector is run.")
@click.option("--passes", default=2, show_default=True, type=click.IntRange(1, 3),
              help="Crop again round the first result.")  # fmt: skip
@click.option("--mirror", is_flag=True, help="Average with the mirrored crop: twice the time.")
@click.option("--threads", default=None, type=click.IntRange(1, 256), help="Network threads.")
@click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt"]), default="cpu",
              show_default=True, help="Where ONNX Runtime runs.")  # fmt: skip
@click.option("--max-frames", default=None, type=click.IntRange(1), help="Stop after this many.")
@click.option("--scale", default=1, show_default=True, type=click.IntRange(1, 8),
              help="Draw on the frame enlarged this many times.")  # fmt: skip
@click.option("--no-dense", is_flag=True, help="Draw no shaded surface.")
@click.option("--no-window", is_flag=True, help="Never open a window.")
def command(
    images: tuple[str, ...],
    more: tuple[str, ...],
    video: str | None,
    camera: str | None,
    model: str,
    save: Path | None,
    json_path: Path | None,
    mesh: Path | None,
    max_faces: int,
    box: str | None,
    passes: int,
    mirror: bool,
    threads: int | None,
    provider: str,
    max_frames: int | None,
    scale: int,
    no_dense: bool,
    no_window: bool,
) -> None:
    """Find faces and draw them or write what they are."""
    pictures = [*images, *more]
    if (bool(pictures) + (video is not None) + (camera is not None)) != 1:
        raise UsageError("give pictures, or --video, or --camera: exactly one of the three")
    if mesh is not None and not pictures:
        raise UsageError("--mesh needs pictures")
    boxes = [_parse_box(box)] if box is not None else None
    from posgan_edge.engines import load_engine
    from posgan_edge.vision.pipeline import FacePipeline
    from posgan_edge.vision.sinks import WindowSink

    outputs = _Outputs(
        save, json_path, mesh, not no_window and WindowSink.available(), not no_dense, scale
    )
    _check_outputs(outputs, pictures)
    engine = load_engine(model, threads, provider)
    detector = None
    if boxes is None:
        from posgan_edge.vision.detector import MediaPipeDetector

        detector = MediaPipeDetector(thorough=bool(pictures))
    drawn = outputs.save is not None or outputs.window
    dense = mesh is not None or (drawn and not no_dense)
    pipeline = FacePipeline(engine, detector, passes, mirror, dense)
    if pictures:
        _run_pictures(pictures, pipeline, boxes, max_faces, outputs)
    else:
        target = video if video is not None else camera
        assert target is not None
        _run_video(target, camera is not None, pipeline, boxes, max_faces, max_frames, outputs)


def _run_pictures(
    paths: list[str],
    pipeline: FacePipeline,
    boxes: list[FaceBox] | None,
    max_faces: int,
    outputs: _Outputs,
) -> None:
    """Every picture is tried; failures are reported one line each and counted at the end."""
    from posgan_edge.cli import report_error
    from posgan_edge.vision.sinks import JsonLinesSink, WindowSink
    from posgan_edge.vision.sources import picture_frame

    failed = 0
    with ExitStack() as stack:
        lines = stack.enter_context(JsonLinesSink(outputs.json)) if outputs.json else None
        window = stack.enter_context(WindowSink()) if outputs.window else None
        for path in paths:
            try:
                frame = picture_frame(path)
                faces = pipeline.process(frame, boxes, max_faces)
                if lines is not None:
                    lines.write(frame, faces)
                if not faces:
                    raise BadInput(f"{path}: no face was found")
                drawn = _write_picture(frame, faces, outputs, many=len(paths) > 1)
                click.echo(f"{path}: {_summary(faces)}")
                if window is not None:
                    window.write(drawn, 0)
            except PosganError as error:
                report_error(error)
                failed += 1
    if failed:
        raise BadInput(f"{failed} of {len(paths)} pictures failed")


def _write_picture(frame: Frame, faces: list[Face], outputs: _Outputs, many: bool) -> Image:
    from posgan_edge.geometry.mesh import face_mesh, save_mesh
    from posgan_edge.vision.draw import draw_faces
    from posgan_edge.vision.images import write_image

    drawn = draw_faces(frame.image, faces, outputs.dense, scale=outputs.scale)
    source = Path(frame.name)
    if outputs.save is not None:
        write_image(_target(outputs.save, source, source.suffix or ".png", many), drawn)
    if outputs.mesh is not None:
        position_map = faces[0].position_map
        assert position_map is not None, "the pipeline was asked for maps"
        mesh = face_mesh(position_map, faces[0].crop)
        save_mesh(mesh, _target(outputs.mesh, source, ".obj", many), frame.image)
    return drawn


def _target(path: Path, source: Path, suffix: str, many: bool) -> Path:
    """A file for one picture, or a file named after the source in a folder."""
    if path.suffix and not path.is_dir() and not many:
        return path
    return path / f"{source.stem}{suffix}"


def _run_video(
    target: str,
    camera: bool,
    pipeline: FacePipeline,
    boxes: list[FaceBox] | None,
    max_faces: int,
    max_frames: int | None,
    outputs: _Outputs,
) -> None:
    from rich.progress import track

    from posgan_edge.vision.draw import draw_faces
    from posgan_edge.vision.sinks import JsonLinesSink, VideoSink, WindowSink
    from posgan_edge.vision.sources import VideoSource

    count = found = 0
    with ExitStack() as stack:
        source = stack.enter_context(VideoSource(target, camera))
        video = stack.enter_context(VideoSink(outputs.save, source.rate)) if outputs.save else None
        lines = stack.enter_context(JsonLinesSink(outputs.json)) if outputs.json else None
        window = stack.enter_context(WindowSink()) if outputs.window else None
        frames = track(
            source, "frames", total=source.frames_promised or None, transient=True,
            disable=camera or window is not None,
        )  # fmt: skip
        for frame in frames:
            faces = pipeline.process(frame, boxes, max_faces)
            count, found = count + 1, found + bool(faces)
            if lines is not None:
                lines.write(frame, faces)
            if video is not None or window is not None:
                drawn = draw_faces(frame.image, faces, outputs.dense, scale=outputs.scale)
                if video is not None:
                    video.write(drawn)
                if window is not None and not window.write(drawn):
                    break
            if max_frames is not None and count >= max_frames:
                break
    promised = source.frames_promised
    short = f" (its header promises {promised})" if promised > count and not max_frames else ""
    click.echo(f"{target}: {count} frames{short}, a face in {found}")
    if not found:
        raise BadInput(f"{target}: no face was found in any frame")


def _check_outputs(outputs: _Outputs, pictures: list[str]) -> None:
    """Refuses what cannot be written before anything slow starts."""
    from posgan_edge.files import check_writable

    if outputs.json is not None:
        check_writable(outputs.json)
    for path, suffix in ((outputs.save, ".png"), (outputs.mesh, ".obj")):
        if path is None:
            continue
        many = len(pictures) > 1
        if many and path.suffix:
            raise UsageError(f"{path}: names one file; many pictures need a folder")
        if pictures:
            check_writable(_target(path, Path("picture"), suffix, many))
        else:
            check_writable(path)


def _parse_box(text: str) -> FaceBox:
    from posgan_edge.types import FaceBox

    try:
        x, y, width, height = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError(f"--box {text}: give four numbers X,Y,W,H in pixels") from error
    if not (width > 0 and height > 0):
        raise UsageError(f"--box {text}: width and height must be above zero")
    return FaceBox(x, y, width, height)


def _summary(faces: list[Face]) -> str:
    face = faces[0]
    pose, times = face.pose, face.timings_ms
    return (
        f"{len(faces)} face{'s' * (len(faces) > 1)}, pitch {pose.pitch:+.1f} yaw {pose.yaw:+.1f} "
        f"roll {pose.roll:+.1f}, {times['total']:.0f} ms (detect {times['detect']:.0f}, "
        f"network {times['network']:.1f})"
    )
