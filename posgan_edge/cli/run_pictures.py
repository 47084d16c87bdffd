"""Pictures, each on its own, for ``posgan-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from posgan_edge.arrays import Image
from posgan_edge.cli import report_error
from posgan_edge.cli.run import Options
from posgan_edge.errors import BadInput, PosganError, UsageError
from posgan_edge.faces.values import Face, Frame
from posgan_edge.files import check_writable
from posgan_edge.geometry.mesh import face_mesh
from posgan_edge.images import write_image
from posgan_edge.live.sinks import JsonLinesSink, Result, WindowSink
from posgan_edge.live.sources import picture_frame, pictures_of
from posgan_edge.render.dense import check_dense, filled, uv_texture, write_dense
from posgan_edge.render.draw import draw_faces
from posgan_edge.render.meshes import save_mesh
from posgan_edge.system import has_display


def run_pictures(sources: list[str], options: Options) -> None:
    """Every picture is tried; failures are reported one line each and counted at the end."""
    from posgan_edge.engines import load_engine
    from posgan_edge.faces.pipeline import FacePipeline

    paths: list[str] = []
    failed = 0
    for source in sources:
        try:
            paths += pictures_of(source)
        except BadInput as error:
            report_error(error)
            failed += 1
    empty = failed
    many = len(paths) + empty > 1
    show = options.window and has_display()
    _check_outputs(options, many)
    boxes = options.boxes()
    engine = load_engine(options.model, options.threads, options.provider)
    layout = options.layout(engine.info.layout)
    detector = options.detector(thorough=True) if boxes is None else None
    drawn = options.save is not None or show
    dense = (drawn and options.dense) or options.mesh is not None or bool(options.dense_files())
    pipeline = FacePipeline(
        engine, detector, options.passes or 2, options.mirror, dense, layout=layout
    )
    with ExitStack() as stack:
        lines = (
            stack.enter_context(JsonLinesSink(options.json, options.camera()))
            if options.json
            else None
        )
        window = stack.enter_context(WindowSink()) if show else None
        for path in paths:
            try:
                frame = picture_frame(path)
                faces = pipeline.process(frame, boxes, options.max_faces)
                if lines is not None:
                    lines.write(Result(frame, faces, timings_ms=pipeline.timings_ms))
                if not faces:
                    raise BadInput(f"{path}: no face was found")
                canvas = (
                    draw_faces(frame.image, faces, options.dense, scale=options.scale)
                    if drawn
                    else None
                )
                _write(frame, faces, canvas, options, many)
                line = _summary(faces, pipeline.timings_ms)
                click.echo(f"{path}: {line}", err=str(options.json) == "-")
                if window is not None:
                    window.write(Result(frame, faces, canvas))
                    window.pump(0)
            except PosganError as error:
                report_error(error)
                failed += 1
    if failed:
        raise BadInput(f"{failed} of {len(paths) + empty} pictures failed")


def _write(
    frame: Frame, faces: list[Face], canvas: Image | None, options: Options, many: bool
) -> None:
    source, face = Path(frame.name), faces[0]
    if options.save is not None and canvas is not None:
        write_image(_target(options.save, source, source.suffix or ".png", many), canvas)
    if options.mesh is not None:
        target = _target(options.mesh, source, ".obj", many)
        picture = None
        if target.suffix.lower() in (".obj", ".glb"):
            picture = filled(uv_texture(face, frame.image, mirrored=True))
        save_mesh(face_mesh(face.dense_map, face.crop), target, frame.image, picture)
    for kind, path in options.dense_files():
        target = _target(path, source, ".png", many)
        write_dense(kind, face, frame.image, target, options.mirror_texture)


def _target(path: Path, source: Path, suffix: str, many: bool) -> Path:
    """A file for one picture, or a file named after the source in a folder."""
    if path.suffix and not path.is_dir() and not many:
        return path
    return path / f"{source.stem}{suffix}"


def _check_outputs(options: Options, many: bool) -> None:
    """Refuses what cannot be written before anything slow starts."""
    if options.json is not None and str(options.json) != "-":
        check_writable(options.json)
    for path, suffix in ((options.save, ".png"), (options.mesh, ".obj")):
        if path is not None:
            _check(path, suffix, many)
    for kind, path in options.dense_files():
        check_dense(kind, _check(path, ".png", many))


def _check(path: Path, suffix: str, many: bool) -> Path:
    if many and path.suffix:
        raise UsageError(f"{path}: names one file; many pictures need a folder")
    return check_writable(_target(path, Path("picture"), suffix, many))


def _summary(faces: list[Face], times: dict[str, float]) -> str:
    face = faces[0]
    pose = face.pose
    return (
        f"{len(faces)} face{'s' * (len(faces) > 1)}, pitch {pose.pitch:+.1f} yaw {pose.yaw:+.1f} "
        f"roll {pose.roll:+.1f}, {times['total']:.0f} ms (detect {times['detect']:.0f}, "
        f"network {times['network']:.1f})"
    )
