"""Where results go: JSON lines, NPZ, videos, pictures, meshes, a window, a live page."""

from posgan_edge.live.sinks.base import FileSink, RecordSink, Result, Sink
from posgan_edge.live.sinks.journal import Done, Journal
from posgan_edge.live.sinks.outputs import Outputs
from posgan_edge.live.sinks.pictures import (
    DenseSink,
    FilesSink,
    ImagesSink,
    MeshesSink,
)
from posgan_edge.live.sinks.records import CsvSink, JsonLinesSink, NpzSink, frame_record
from posgan_edge.live.sinks.shared import SharedSink
from posgan_edge.live.sinks.video import VIDEO_CODECS, VideoSink
from posgan_edge.live.sinks.window import WindowSink

__all__ = [
    "VIDEO_CODECS",
    "CsvSink",
    "DenseSink",
    "Done",
    "FileSink",
    "FilesSink",
    "ImagesSink",
    "Journal",
    "JsonLinesSink",
    "MeshesSink",
    "NpzSink",
    "Outputs",
    "RecordSink",
    "Result",
    "SharedSink",
    "Sink",
    "VideoSink",
    "WindowSink",
    "frame_record",
]
