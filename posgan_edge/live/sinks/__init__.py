"""Where results go: JSON lines, NPZ, videos, pictures, meshes, a window, a live page."""

from posgan_edge.live.sinks.base import FileSink, Result, Sink
from posgan_edge.live.sinks.pictures import DenseSink, ImagesSink, MeshesSink, VideoSink
from posgan_edge.live.sinks.records import JsonLinesSink, NpzSink, frame_record
from posgan_edge.live.sinks.window import WindowSink

__all__ = [
    "DenseSink",
    "FileSink",
    "ImagesSink",
    "JsonLinesSink",
    "MeshesSink",
    "NpzSink",
    "Result",
    "Sink",
    "VideoSink",
    "WindowSink",
    "frame_record",
]
