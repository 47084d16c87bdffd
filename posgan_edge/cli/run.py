"""``posgan-edge run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from posgan_edge.errors import MissingRuntime, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from posgan_edge.faces.detector import MediaPipeDetector
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.geometry.values import FaceBox


@dataclass(frozen=True)
class Options:
    """What the user asked for, under the names of the options."""

    model: str
    save: Path | None
    json: Path | None
    npz: Path | None
    mesh: Path | None
    depth: Path | None
    mask: Path | None
    texture: Path | None
    mirror_texture: bool
    uv_mask: Path | None
    serve: str | None
    token: str | None
    window: bool
    max_faces: int
    box: str | None
    intrinsics: str | None
    passes: int | None
    mirror: bool
    threads: int | None
    provider: str | None
    max_frames: int | None
    duration: float | None
    fps: float | None
    size: str | None
    drop: bool | None
    patience: float
    redetect: float
    smooth: bool
    overlay: bool
    summary: Path | None
    scale: int
    dense: bool

    def dense_files(self) -> list[tuple[str, Path]]:
        """(kind, path) of the dense outputs that are wanted."""
        kinds = (("depth", self.depth), ("mask", self.mask), ("texture", self.texture))
        return [(kind, path) for kind, path in kinds if path is not None]

    def check_names(self, sources: list[str]) -> None:
        """Raises UsageError where an output would overwrite another, or a source."""
        outputs = (self.save, self.json, self.npz, self.mesh, self.summary)
        named = [*outputs, *(path for _, path in self.dense_files())]
        taken = {Path(source).resolve() for source in sources if Path(source).is_file()}
        for path in (path for path in named if path is not None and str(path) != "-"):
            if path.resolve() in taken:
                raise UsageError(f"{path}: is a source or another output: give another name")
            if path.suffix:  # folders may be shared
                taken.add(path.resolve())

    def layout(self, name: str) -> UvLayout:
        """The model's layout, with the mask of --uv-mask. Raises UsageError where an output needs
        a mask and the layout has none."""
        from posgan_edge.geometry.layout import load_layout

        layout = load_layout(name)
        if self.uv_mask is not None:
            layout = layout.with_mask_file(self.uv_mask)
        if layout.masked:
            return layout
        wanted = [f"--{kind}" for kind, _ in self.dense_files()] + ["--mesh"] * (
            self.mesh is not None
        )
        if wanted:
            raise UsageError(
                f"{wanted[0]} needs to know where the face ends, and UV layout {name!r} does not "
                "say: give --uv-mask FILE (PRNet's uv_face_mask.png)"
            )
        return layout

    def detector(self, thorough: bool = False) -> MediaPipeDetector:
        """The detector that looks where no --box is given."""
        from posgan_edge.faces.detector import MediaPipeDetector

        try:
            return MediaPipeDetector(thorough=thorough)
        except MissingRuntime as error:
            raise MissingRuntime(f"{error} (or give --box)") from error

    def camera(self) -> NDArray[np.float64] | None:
        """--intrinsics as a camera matrix."""
        if self.intrinsics is None:
            return None
        from posgan_edge.faces.camera import camera_matrix

        return camera_matrix(*_numbers("--intrinsics", self.intrinsics, "FX,FY,CX,CY in pixels"))

    def boxes(self) -> list[FaceBox] | None:
        """--box as boxes."""
        return None if self.box is None else [_parse_box(self.box)]


#: Options that only a video, a camera or a stream can have, with their names on the command line.
_LIVE_ONLY = {
    "npz": "--npz", "serve": "--serve", "token": "--token", "max_frames": "--max-frames",
    "duration": "--duration", "fps": "--fps", "size": "--size", "drop": "--drop-frames",
    "overlay": "--overlay", "summary": "--summary",
}  # fmt: skip


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--image", "images", multiple=True, help="Picture; may be given many times.")
@click.option("--video", default=None, help="Video file.")
@click.option("--camera", default=None, help="Camera's number or device, or a stream's address.")
@click.option("--model", default="edge", show_default=True, help="Shipped name or model file.")
@click.option("--save", type=Path, help="Annotated picture or video, or FOLDER for pictures.")
@click.option("--json", type=Path, help="JSON lines, one per frame; - for standard output.")
@click.option("--npz", type=Path, help="Landmarks and pose of every frame as NumPy arrays.")
@click.option("--mesh", type=Path, help="OBJ, PLY or GLB of the face; FOLDER for a sequence.")
@click.option("--depth", type=Path, help="Depth map: .npy (pixels) or .png (16 bits).")
@click.option("--mask", type=Path, help="Face mask, .png.")
@click.option("--texture", type=Path, help="UV texture of what is seen, .png with alpha.")
@click.option("--mirror-texture", is_flag=True, help="Complete textures from the other side.")
@click.option("--uv-mask", type=Path, help="Face mask of the UV layout, for layouts without one.")
@click.option("--serve", metavar="[HOST:]PORT", help="Live page in the browser (loopback).")
@click.option("--token", help="Token for --serve beyond loopback (otherwise one is made up).")
@click.option("--max-faces", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--box", metavar="X,Y,W,H", help="Face box; no detector is run.")
@click.option("--intrinsics", metavar="FX,FY,CX,CY",
              help="Of the camera, in pixels: JSON lines get the head's place in mm.")  # fmt: skip
@click.option("--passes", default=None, type=click.IntRange(1, 3),
              help="Pictures: crop again round the first result.  [default: 2]")  # fmt: skip
@click.option("--mirror", is_flag=True, help="Average with the mirrored crop: twice the time.")
@click.option("--threads", default=None, type=click.IntRange(1, 256), help="Network threads.")
@click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
              help="Where an ONNX model runs.  [default: what it was built for]")  # fmt: skip
@click.option("--max-frames", default=None, type=click.IntRange(1), help="Stop after this many.")
@click.option("--duration", default=None, type=click.FloatRange(0, min_open=True),
              help="Stop after this many seconds.")  # fmt: skip
@click.option("--fps", default=None, type=click.FloatRange(0, 1000, min_open=True),
              help="At most this many frames a second.")  # fmt: skip
@click.option("--size", metavar="WIDTHxHEIGHT", help="Of raw BGR frames on standard input.")
@click.option("--drop-frames/--keep-frames", "drop", default=None,
              help="Leave out frames that come too fast.  [default: live ones]")  # fmt: skip
@click.option("--patience", default=30.0, show_default=True, type=click.FloatRange(0),
              help="Seconds to wait for a stream that was lost.")  # fmt: skip
@click.option("--redetect", default=1.0, show_default=True, type=click.FloatRange(0),
              help="Seconds between looks for new faces.")  # fmt: skip
@click.option("--no-smooth", is_flag=True, help="Switch the filters off.")
@click.option("--overlay", is_flag=True, help="Draw the time of each stage.")
@click.option("--summary", type=Path, help="What the run did, as JSON.")
@click.option("--scale", default=1, show_default=True, type=click.IntRange(1, 8),
              help="Draw on the frame enlarged this many times.")  # fmt: skip
@click.option("--no-dense", is_flag=True, help="Draw no shaded surface.")
@click.option("--no-window", is_flag=True, help="Never open a window.")
def command(
    sources: tuple[str, ...],
    images: tuple[str, ...],
    video: str | None,
    camera: str | None,
    no_smooth: bool,
    no_dense: bool,
    no_window: bool,
    **values: Any,
) -> None:
    """Find faces and draw them or write what they are.

    SOURCE is a picture, a folder of them, a video file, frame-%04d.png, a camera's number,
    /dev/videoN, csi://N, rtsp://, http://, - (raw frames) or synthetic: (a moving portrait).
    """
    from posgan_edge.live.sources import is_picture

    given = [*images, *sources]
    if bool(given) + (video is not None) + (camera is not None) != 1:
        raise UsageError("give sources, or --video, or --camera: exactly one of the three")
    options = Options(**values, smooth=not no_smooth, dense=not no_dense, window=not no_window)
    if options.mirror_texture and options.texture is None:
        raise UsageError("--mirror-texture needs --texture")
    if options.intrinsics is not None and options.json is None:
        raise UsageError("--intrinsics needs --json")
    options.camera()
    options.check_names([*given, *([video] if video is not None else [])])
    if options.token is not None and options.serve is None:
        raise UsageError("--token needs --serve")
    pictures = bool(given) and all(is_picture(source) for source in given)
    if images and not pictures:
        raise UsageError("--image takes pictures")
    if pictures:
        for name, option in _LIVE_ONLY.items():
            if getattr(options, name) not in (None, False):
                raise UsageError(f"{option} is for videos, cameras and streams, not for pictures")
        from posgan_edge.cli.run_pictures import run_pictures

        run_pictures(given, options)
        return
    if len(given) > 1:
        raise UsageError("give one video, camera or stream at a time, or pictures only")
    if options.passes is not None:
        raise UsageError("--passes is for pictures: in a video the last frame is the first pass")
    from posgan_edge.cli.run_video import run_video

    run_video(video or camera or given[0], options, camera is not None)


def _parse_box(text: str) -> FaceBox:
    from posgan_edge.geometry.values import FaceBox

    x, y, width, height = _numbers("--box", text, "X,Y,W,H in pixels")
    if not (width > 0 and height > 0):
        raise UsageError(f"--box {text}: width and height must be above zero")
    return FaceBox(x, y, width, height)


def _numbers(option: str, text: str, what: str) -> tuple[float, float, float, float]:
    try:
        a, b, c, d = (float(v) for v in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give four numbers {what}") from error
    return a, b, c, d
