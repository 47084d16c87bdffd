"""Groups of options of ``posgan-edge run``; each builds its object."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import Group, numbers, with_flags
from posgan_edge.errors import MissingRuntime, UsageError
from posgan_edge.files import is_utf8

if TYPE_CHECKING:
    from posgan_edge.engines.base import Engine
    from posgan_edge.faces.detector import Detector
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.geometry.values import FaceBox
    from posgan_edge.live.finder import Finder
    from posgan_edge.live.loop import Drawing, Limits
    from posgan_edge.live.sources import Source

#: Faces that are looked for in a picture, and those that may be asked for.
ALL_FACES = 64


@dataclass(frozen=True)
class SourceOptions(Group):
    """Where frames come from, and how many of them."""

    sources: tuple[str, ...]
    images: tuple[str, ...]
    video: str | None
    camera: str | None
    size: str | None
    fps: float | None
    drop: bool | None
    patience: float
    max_frames: int | None
    duration: float | None

    declared = (
        click.argument("sources", nargs=-1, metavar="[SOURCE]..."),
        click.option("--image", "images", multiple=True, help="Picture; may be given many times."),
        click.option("--video", default=None, help="Video file."),
        click.option("--camera", default=None,
                     help="Camera's number or device, or a stream's address."),
        click.option("--size", metavar="WIDTHxHEIGHT",
                     help="Of raw BGR frames on standard input."),
        click.option("--fps", default=None, type=click.FloatRange(0, 1000, min_open=True),
                     help="At most this many frames a second (not for pictures)."),
        click.option("--drop-frames/--keep-frames", "drop", default=None,
                     help="Leave out frames that come too fast.  [default: live ones]"),
        click.option("--patience", default=30.0, show_default=True, type=click.FloatRange(0),
                     help="Seconds to wait for a stream that was lost."),
        click.option("--max-frames", default=None, type=click.IntRange(1),
                     help="Stop after this many."),
        click.option("--duration", default=None, type=click.FloatRange(0, min_open=True),
                     help="Stop after this many seconds."),
    )  # fmt: skip

    @property
    def given(self) -> list[str]:
        """Every source that was named."""
        return [v for v in (*self.images, *self.sources, self.video, self.camera) if v is not None]

    def check(self) -> bool:
        """Whether the sources are pictures. Raises UsageError where they do not go together."""
        from posgan_edge.live.sources import is_picture

        named = [*self.images, *self.sources]
        if bool(named) + (self.video is not None) + (self.camera is not None) != 1:
            raise UsageError("give sources, or --video, or --camera: exactly one of the three")
        pictures = bool(named) and all(is_picture(name) for name in named)
        if self.images and not pictures:
            raise UsageError("--image takes pictures")
        if pictures:
            unfit = (("--size", self.size), ("--fps", self.fps), ("--drop-frames", self.drop))
            for option, value in unfit:
                if value is not None:
                    raise UsageError(f"{option} is for videos, cameras and streams")
        elif len(named) > 1:
            raise UsageError("give one video, camera or stream at a time, or pictures only")
        return pictures

    def source(self) -> Source:
        """The video, camera or stream, not yet opened."""
        from posgan_edge.live.sources import open_source

        try:
            return open_source(self.given[0], self._size(), self.fps, self.camera is not None)
        except UsageError as error:
            raise with_flags(error) from error

    def limits(self) -> Limits:
        """When the run ends by itself."""
        from posgan_edge.live.loop import Limits

        return Limits(self.max_frames, self.duration)

    def _size(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        match = re.fullmatch(r"(\d+)x(\d+)", self.size)
        if match is None or not all(8 <= int(v) <= 16384 for v in match.groups()):
            raise UsageError(f"--size {self.size}: give WIDTHxHEIGHT, 8 to 16384 each")
        return int(match[1]), int(match[2])


@dataclass(frozen=True)
class EngineOptions(Group):
    """The network and where it runs."""

    model: str
    threads: int | None
    provider: str | None
    verify: Path | None
    uv_mask: Path | None

    declared = (
        click.option("--model", default="edge", show_default=True,
                     help="Shipped name or model file."),
        click.option("--threads", default=None, type=click.IntRange(1, 256),
                     help="Network threads."),
        click.option("--provider", type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
                     help="Where an ONNX model runs.  [default: what it was built for]"),
        click.option("--verify", type=Path, help="Public key; an engine must be signed by it."),
        click.option("--uv-mask", type=Path,
                     help="Face mask of the UV layout, for layouts without one."),
    )  # fmt: skip

    def engine(self) -> Engine:
        """The engine, loaded."""
        from posgan_edge.engines import load_engine

        return load_engine(self.model, self.threads, self.provider, self.verify)

    def layout(self, name: str, masked: Sequence[str]) -> UvLayout:
        """The model's layout, with the mask of --uv-mask. Raises UsageError where one of the
        options ``masked`` needs a mask and the layout has none."""
        from posgan_edge.geometry.layout import load_layout

        layout = load_layout(name)
        if self.uv_mask is not None:
            if not is_utf8(self.uv_mask):
                raise UsageError(f"--uv-mask {self.uv_mask}: the name must be UTF-8")
            layout = layout.with_mask_file(self.uv_mask)
        if masked and not layout.masked:
            raise UsageError(
                f"{masked[0]} needs to know where the face ends, and UV layout {name!r} does not "
                "say: give --uv-mask FILE (PRNet's uv_face_mask.png)"
            )
        return layout


@dataclass(frozen=True)
class FaceOptions(Group):
    """Which faces are looked for, and how."""

    max_faces: int | None
    box: str | None
    passes: int | None
    mirror: bool
    redetect: float
    no_smooth: bool

    declared = (
        click.option("--max-faces", default=None, type=click.IntRange(1, ALL_FACES),
                     help=f"[default: all ({ALL_FACES}) in pictures, 1 in videos and cameras]"),
        click.option("--box", metavar="X,Y,W,H", help="Face box; no detector is run."),
        click.option("--passes", default=None, type=click.IntRange(1, 3),
                     help="Pictures: passes, each on a crop round the last result.  [default: 2]"),
        click.option("--mirror", is_flag=True,
                     help="Average with the mirrored crop: twice the time."),
        click.option("--redetect", default=1.0, show_default=True, type=click.FloatRange(0),
                     help="Videos: seconds between looks for new faces."),
        click.option("--no-smooth", is_flag=True, help="Switch the filters off."),
    )  # fmt: skip

    def boxes(self) -> list[FaceBox] | None:
        """--box as boxes."""
        if self.box is None:
            return None
        from posgan_edge.geometry.values import FaceBox

        x, y, width, height = numbers("--box", self.box, "X,Y,W,H in pixels")
        if not (width > 0 and height > 0):
            raise UsageError(f"--box {self.box}: width and height must be above zero")
        return [FaceBox(x, y, width, height)]

    def pictures(
        self, engine: Engine, layout: UvLayout, dense: bool, notify: Callable[[str], None],
        stack: ExitStack,
    ) -> Finder:  # fmt: skip
        """What finds faces in pictures: a thorough search, two passes."""
        from posgan_edge.faces.pipeline import FacePipeline
        from posgan_edge.live.finder import PictureFinder

        boxes = self.boxes()
        detector = None if boxes is not None else self._detector(True, stack)
        pipeline = stack.enter_context(
            FacePipeline(engine, detector, self.passes or 2, self.mirror, dense, layout=layout)
        )
        return PictureFinder(pipeline, boxes, self.max_faces or ALL_FACES, notify)

    def tracker(
        self, engine: Engine, layout: UvLayout, dense: bool, expressions: bool, background: bool,
        stack: ExitStack,
    ) -> Finder:  # fmt: skip
        """What follows faces from frame to frame."""
        from posgan_edge.faces.detector import GivenBoxes
        from posgan_edge.faces.tracker import FaceTracker

        if self.passes is not None:
            raise UsageError(
                "--passes is for pictures: in a video the last frame is the first pass"
            )
        engine.warm_up()
        boxes = self.boxes()
        detector = GivenBoxes(boxes) if boxes is not None else self._detector(False, stack)
        return stack.enter_context(
            FaceTracker(
                engine, detector, self.max_faces or 1, self.redetect, not self.no_smooth,
                dense=dense, background=background, mirror=self.mirror, layout=layout,
                expressions=expressions,
            )
        )  # fmt: skip

    def _detector(self, thorough: bool, stack: ExitStack) -> Detector:
        from posgan_edge.faces.detector import MediaPipeDetector

        try:
            return stack.enter_context(MediaPipeDetector(thorough=thorough))
        except MissingRuntime as error:
            raise MissingRuntime(f"{error} (or give --box)") from error


@dataclass(frozen=True)
class DrawingOptions(Group):
    """How frames are drawn."""

    overlay: bool
    scale: int
    no_dense: bool

    declared = (
        click.option("--overlay", is_flag=True, help="Draw the time of each stage."),
        click.option("--scale", default=1, show_default=True, type=click.IntRange(1, 8),
                     help="Draw on the frame enlarged this many times."),
        click.option("--no-dense", is_flag=True, help="Draw no shaded surface."),
    )  # fmt: skip

    def drawing(self) -> Drawing:
        """What the loop takes."""
        from posgan_edge.live.loop import Drawing

        return Drawing(not self.no_dense, self.overlay, self.scale)
