"""Groups of options of ``posgan-edge run``. Each group makes the objects that it describes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from posgan_edge.cli.groups import (
    ALL_FACES,
    Finite,
    Group,
    ModelOptions,
    SearchOptions,
    argument,
    option,
    with_flags,
)
from posgan_edge.errors import MissingRuntime, UsageError

if TYPE_CHECKING:
    from posgan_edge.engines.base import Engine
    from posgan_edge.faces.detector import Detector
    from posgan_edge.faces.tracker import FaceTracker
    from posgan_edge.geometry.layout import UvLayout
    from posgan_edge.live.finder import Finder
    from posgan_edge.live.loop import Drawing, Limits
    from posgan_edge.live.sources import Source


@dataclass(frozen=True)
class SourceOptions(Group):
    """Where frames come from, and how many of them."""

    # fmt: off
    sources: tuple[str, ...] = argument("sources", nargs=-1, metavar="[SOURCE]...")
    images: tuple[str, ...] = option("--image", "images", multiple=True,
        help="Picture, or its web address; may be given many times.")
    video: str | None = option("--video", help="Video file.")
    camera: str | None = option("--camera",
        help="Camera's number or device, or a stream's address.")
    size: str | None = option("--size", metavar="WIDTHxHEIGHT",
        help="Size of raw BGR frames on standard input.")
    fps: float | None = option("--fps", type=Finite(0, 1000, min_open=True),
        help="At most this many frames a second (not for pictures).")
    drop: bool | None = option("--drop-frames/--keep-frames", "drop", default=None,
        help="Drop frames that come too fast.  [default: for live sources]")
    patience: float = option("--patience", default=30.0, show_default=True, type=Finite(0),
        help="Seconds to wait for a stream that was lost.")
    max_frames: int | None = option("--max-frames", type=click.IntRange(1),
        help="Stop after this many frames.")
    duration: float | None = option("--duration", type=Finite(0, min_open=True),
        help="Stop after this many seconds.")
    # fmt: on

    @property
    def given(self) -> list[str]:
        """All sources given, as text."""
        return [v for v in (*self.images, *self.sources, self.video, self.camera) if v is not None]

    def check(self) -> bool:
        """Returns whether the sources are pictures.

        Raises UsageError if the sources and options cannot be used together.
        """
        from posgan_edge.live.sources import is_picture, names_camera
        from posgan_edge.live.sources.base import is_web

        named = [*self.images, *self.sources]
        if bool(named) + (self.video is not None) + (self.camera is not None) != 1:
            raise UsageError("give sources, or --video, or --camera: exactly one of the three")
        pictures = bool(named) and all(
            is_picture(name) or (name in self.images and is_web(name)) for name in named
        )
        if self.images and not pictures:
            raise UsageError("--image takes pictures")
        if pictures:
            unfit = (("--size", self.size), ("--fps", self.fps), ("--drop-frames", self.drop))
            for option, value in unfit:
                if value is not None:
                    raise UsageError(f"{option} is for videos, cameras and streams")
        elif len(named) > 1 and not all(names_camera(name) for name in named):
            raise UsageError("give one video at a time, or cameras and streams, or pictures only")
        return pictures

    def moving(self) -> list[Source]:
        """Returns the video, or the cameras and streams, not yet opened.

        Raises UsageError for a bad address.
        """
        from posgan_edge.live.sources import open_source

        size, camera = self._size(), self.camera is not None
        try:
            return [open_source(name, size, self.fps, camera) for name in self.given]
        except UsageError as error:
            raise with_flags(error) from error

    def limits(self) -> Limits:
        """Returns the limits after which the run ends."""
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
class EngineOptions(ModelOptions):
    """The network and where it runs."""

    threads: int | None = option(
        "--threads", default=None, type=click.IntRange(1, 256), help="Network threads."
    )
    processes: int | None = option(
        "--processes", default=None, type=click.IntRange(1, 256),
        help="Pictures: processes, each with a network of its own.  [default: one for each core, "
             "for many pictures]",
    )  # fmt: skip

    def engine(self) -> Engine:
        """Returns the loaded engine. Raises PosganError if it cannot be loaded."""
        from posgan_edge.engines import load_engine

        return load_engine(self.model, self.threads, self.provider, self.verify)

    def layout(self, name: str, masked: Sequence[str]) -> UvLayout:
        """Returns the model's layout with the set of --landmarks and the mask of --uv-mask.

        ``masked`` names the options given that need a mask. Raises UsageError if there is one
        and the layout has no mask, and BadInput if it has no such landmarks.
        """
        from posgan_edge.geometry.layout import load_layout

        layout = load_layout(name).with_landmarks(self.landmarks)
        if self.uv_mask is not None:
            layout = layout.with_mask_file(self.uv_mask)
        if masked and not layout.masked:
            raise UsageError(
                f"{masked[0]} needs to know where the face ends, and UV layout {name!r} does not "
                "say: give --uv-mask FILE (PRNet's uv_face_mask.png)"
            )
        return layout


@dataclass(frozen=True)
class FaceOptions(SearchOptions):
    """Which faces are looked for, and how they are followed."""

    redetect: float = option(
        "--redetect", default=1.0, show_default=True, type=Finite(0),
        help="Videos: seconds between searches for new faces.",
    )  # fmt: skip
    no_smooth: bool = option("--no-smooth", is_flag=True, help="Do not smooth over time.")

    def pictures(
        self, engine: Engine, layout: UvLayout, dense: bool, notify: Callable[[str], None],
        stack: ExitStack,
    ) -> Finder:  # fmt: skip
        """Returns a finder for single pictures: thorough detection, two passes by default.

        ``stack`` closes what is opened here; ``notify`` is called with a line for each failure.
        """
        from posgan_edge.faces.pipeline import FacePipeline
        from posgan_edge.live.finder import PictureFinder

        boxes = self.boxes()
        detector = None if boxes is not None else self._detector(True, stack)
        pipeline = stack.enter_context(
            FacePipeline(engine, detector, self.passes or 2, self.mirror, dense, layout=layout)
        )
        return PictureFinder(pipeline, boxes, self.max_faces or ALL_FACES, notify)

    def tracker(
        self, engine: Engine, layout: UvLayout, dense: bool, expressions: bool, stack: ExitStack
    ) -> FaceTracker:
        """Returns a finder that follows faces from frame to frame.

        Raises UsageError for options that are only for pictures.
        """
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
                dense=dense, mirror=self.mirror, layout=layout,
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

    # fmt: off
    overlay: bool = option("--overlay", is_flag=True, help="Draw the time of each stage.")
    scale: int = option("--scale", default=1, show_default=True, type=click.IntRange(1, 8),
        help="Enlarge the frame this many times before drawing.")
    no_dense: bool = option("--no-dense", is_flag=True, help="Draw no shaded surface.")
    # fmt: on

    def drawing(self) -> Drawing:
        """Returns the options of drawing for the live loop."""
        from posgan_edge.live.loop import Drawing

        return Drawing(not self.no_dense, self.overlay, self.scale)
