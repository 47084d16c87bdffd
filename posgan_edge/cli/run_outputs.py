"""The options of ``posgan-edge run`` that say where results go."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import click

from posgan_edge.cli.groups import Group, numbers, option, with_flags
from posgan_edge.cli.progress import tell
from posgan_edge.errors import UsageError
from posgan_edge.files import check_writable, uninterrupted
from posgan_edge.system import has_display

if TYPE_CHECKING:
    from posgan_edge.arrays import FloatArray
    from posgan_edge.live.sinks import Outputs, Sink

#: Options whose outputs each of several cameras has for itself.
_NUMBERED = ("save", "npz", "parquet", "mesh", "depth", "mask", "texture")


@dataclass(frozen=True)
class OutputOptions(Group):
    """Where results go."""

    # fmt: off
    save: Path | None = option("--save", type=Path,
        help="Annotated picture or video, or FOLDER for many pictures.")
    json: Path | None = option("--json", type=Path,
        help="JSON lines, one per frame; - for standard output.")
    csv: Path | None = option("--csv", type=Path, help="A row for each face of each frame.")
    npz: Path | None = option("--npz", type=Path,
        help="Landmarks and pose of every frame as NumPy arrays.")
    parquet: Path | None = option("--parquet", type=Path,
        help="Faces with their maps, a row each (posgan_edge.read_faces reads it).")
    mesh: Path | None = option("--mesh", type=Path,
        help="OBJ, PLY or GLB of each face; FOLDER for many pictures, or a video (FILE.glb: a "
        "video as one animation).")
    depth: Path | None = option("--depth", type=Path,
        help="Depth map of each face: .npy (pixels) or .png (16 bits), or FOLDER.")
    mask: Path | None = option("--mask", type=Path, help="Mask of each face: .png, or FOLDER.")
    texture: Path | None = option("--texture", type=Path,
        help="UV texture of the visible part: .png with alpha, or FOLDER.")
    mirror_texture: bool = option("--mirror-texture", is_flag=True,
        help="Fill the hidden half of a texture from the other half.")
    intrinsics: str | None = option("--intrinsics", metavar="FX,FY,CX,CY",
        help="Camera parameters in pixels: adds the head's position in mm to JSON.")
    summary: Path | None = option("--summary", type=Path, help="Statistics of the run, as JSON.")
    overwrite: bool = option("--overwrite", is_flag=True,
        help="Replace existing files (never one that the run reads).")
    resume: bool = option("--resume", is_flag=True,
        help="Pictures: continue a run that was interrupted.")
    blendshapes: bool = option("--blendshapes", is_flag=True,
        help="ARKit blendshapes in --json, --csv, --npz, --parquet and on the page of --serve.")
    osc: str | None = option("--osc", metavar="HOST:PORT",
        help="Send blendshapes and head to an avatar program (VMC over OSC).")
    serve: str | None = option("--serve", metavar="[HOST:]PORT",
        help="Live page in the browser (loopback).")
    token: str | None = option("--token",
        help="Token for --serve to other machines.  [default: a random one]")
    no_window: bool = option("--no-window", is_flag=True, help="Never open a window.")
    # fmt: on

    def check(self) -> None:
        """Raises UsageError if an option needs another one that is not given."""
        if self.mirror_texture and self.texture is None:
            raise UsageError("--mirror-texture needs --texture")
        if self.intrinsics is not None and self.json is None:
            raise UsageError("--intrinsics needs --json")
        if self.token is not None and self.serve is None:
            raise UsageError("--token needs --serve")
        shown = (self.json, self.csv, self.npz, self.parquet, self.serve)
        if self.blendshapes and not any(value is not None for value in shown):
            raise UsageError("--blendshapes needs --json, --csv, --npz, --parquet or --serve")
        if self.resume and self.lines_to_stdout:
            raise UsageError("--resume cannot continue standard output: give --json FILE")
        self.camera()

    @property
    def window(self) -> bool:
        """Whether a window is opened."""
        return not self.no_window and has_display()

    @property
    def lines_to_stdout(self) -> bool:
        """Whether the JSON lines go to standard output."""
        return str(self.json) == "-"

    def folders(self) -> list[Path]:
        """Returns the folders that files named after pictures are written to."""
        paths = (self.save, self.mesh, self.depth, self.mask, self.texture)
        return [
            path.parent if path.suffix and not path.is_dir() else path
            for path in paths if path is not None
        ]  # fmt: skip

    def journal(self) -> Path | None:
        """Returns the file that says how far a run over pictures is, beside the first output.

        None if nothing is written that could be resumed.
        """
        if self.lines_to_stdout:
            return None
        for path in (self.json, self.csv, self.npz, self.parquet):
            if path is not None:
                return path.parent / f".{path.name}.progress"
        paths = [self.save, self.mesh, self.depth, self.mask, self.texture]
        for path, folder in zip(filter(None, paths), self.folders(), strict=True):
            return folder / f".{path.name}.progress"
        return None

    def camera(self) -> FloatArray | None:
        """Returns --intrinsics as a camera matrix (3, 3) in pixels; None if it is not given."""
        if self.intrinsics is None:
            return None
        from posgan_edge.faces.camera import camera_matrix

        what = "FX,FY,CX,CY in pixels"
        return camera_matrix(*numbers("--intrinsics", self.intrinsics, what))

    def masked(self) -> list[str]:
        """Returns the names of the given options that need a layout with a mask."""
        kinds = ("depth", "mask", "texture", "mesh")
        return [f"--{kind}" for kind in kinds if getattr(self, kind) is not None]

    def sinks(
        self, outputs: Outputs, sources: Sequence[tuple[str, float]], stack: ExitStack
    ) -> list[list[Sink]]:
        """Returns the sinks of each source; ``stack`` closes them.

        ``sources`` are names, and rates in frames a second. Several sources share the JSON lines,
        the CSV file and the live page; the other outputs have the number of the source in their
        names. Raises UsageError for a name that cannot be used, and BadInput for a file that cannot
        be written.
        """
        try:
            if self.summary is not None:
                check_writable(outputs.claim(self.summary))
            # The loop closes the sinks; the stack does if something fails before the loop starts.
            # No signal comes between making a file and handing it to the stack.
            with uninterrupted():
                return self._entered(outputs, sources, stack)
        except UsageError as error:
            raise with_flags(error) from error

    def _entered(
        self, outputs: Outputs, sources: Sequence[tuple[str, float]], stack: ExitStack
    ) -> list[list[Sink]]:
        from posgan_edge.live.sinks import SharedSink

        names, rates = zip(*sources, strict=True)
        if len(sources) == 1:
            return [[stack.enter_context(sink) for sink in self._made(outputs, rates[0])]]
        if self.osc is not None:
            raise UsageError("--osc sends one face: give one camera")
        nothing: dict[str, Any] = dict.fromkeys(_NUMBERED)
        common = replace(self, **nothing, no_window=True)
        shared = [
            SharedSink(stack.enter_context(sink), len(sources))
            for sink in common._made(outputs, rates[0], names)
        ]
        return [
            [
                *shared,
                *map(stack.enter_context, self._numbered(n)._made(outputs, rate, [name])),
            ]
            for n, (name, rate) in enumerate(sources, 1)
        ]

    def _numbered(self, number: int) -> OutputOptions:
        """The outputs that each camera has for itself, for the camera of that number."""
        paths: dict[str, Any] = {
            name: numbered(path, number)
            for name in _NUMBERED if (path := getattr(self, name)) is not None
        }  # fmt: skip
        return replace(self, json=None, csv=None, serve=None, **paths)

    def _made(self, outputs: Outputs, rate: float, names: Sequence[str] = ()) -> Iterator[Sink]:
        from posgan_edge.live import sinks

        pictures = outputs.pictures is not None
        if self.save is not None:
            if self.save.suffix.lower() in sinks.VIDEO_CODECS and not pictures:
                video = sinks.VideoSink(self.save, rate, outputs)
                yield video
                if video.note:
                    tell(video.note)
            else:
                yield sinks.ImagesSink(self.save, outputs)
        if self.json is not None:
            yield sinks.JsonLinesSink(self.json, self.camera(), outputs, self.blendshapes)
        if self.csv is not None:
            yield sinks.CsvSink(self.csv, outputs, self.blendshapes)
        if self.npz is not None:
            yield sinks.NpzSink(self.npz, outputs, self.blendshapes)
        if self.parquet is not None:
            from posgan_edge.jobs.parquet import ParquetSink

            yield ParquetSink(self.parquet, None, outputs, self.blendshapes)
        if self.mesh is not None:
            if self.mesh.suffix.lower() == ".glb" and not pictures and not self.mesh.is_dir():
                from posgan_edge.live.sinks.animation import AnimationSink

                yield AnimationSink(self.mesh, outputs)
            else:
                yield sinks.MeshesSink(self.mesh, outputs)
        for kind in ("depth", "mask", "texture"):
            path = getattr(self, kind)
            if path is not None:
                yield sinks.DenseSink(kind, path, self.mirror_texture, outputs)
        if self.osc is not None:
            from posgan_edge.live.sinks.osc import OscSink

            yield OscSink(self.osc, tell)
        if self.serve is not None:
            from posgan_edge.live.sinks.live_page import LivePageSink

            page = LivePageSink(self.serve, self.token, self.blendshapes, names)
            yield page
            click.echo(f"live page: {reachable(page.url)}", err=True)
        if self.window:
            yield sinks.WindowSink(pictures, " ".join(["posgan-edge", *names]))


def numbered(path: Path, number: int) -> Path:
    """The output of one of several cameras: ``out-2.mp4`` for ``out.mp4``, and ``out/2`` for a
    folder."""
    if path.suffix and not path.is_dir():
        return path.with_stem(f"{path.stem}-{number}")
    return path / str(number)


def reachable(url: str) -> str:
    """Returns the URL with an address that other machines can open.

    0.0.0.0 and [::] are replaced by this machine's own address; other hosts stay.
    """
    parts = urlsplit(url)
    if parts.hostname not in ("0.0.0.0", "::"):
        return url
    kind, target = socket.AF_INET, "192.0.2.1"
    if parts.hostname == "::":
        kind, target = socket.AF_INET6, "2001:db8::1"
    try:
        # No packet is sent: this only tells which local address is used for other networks.
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            host = str(probe.getsockname()[0])
    except OSError:
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}"))
