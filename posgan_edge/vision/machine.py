"""What this machine can show and which cameras its OpenCV opens."""

from __future__ import annotations

import re

import cv2

from posgan_edge.engines.machine import Ability
from posgan_edge.vision.sinks import WindowSink

_HEADLESS = "no display: use --serve PORT or --save"


def has_gstreamer() -> bool:
    """Whether OpenCV was built with GStreamer, which CSI cameras need."""
    return bool(re.search(r"GStreamer:\s*YES", cv2.getBuildInformation()))


def live_abilities() -> list[Ability]:
    """What ``posgan-edge run`` can do here beyond files and network streams."""
    window, csi = WindowSink.available(), has_gstreamer()
    name = f"OpenCV {cv2.__version__}"
    without = f"{name} was built without GStreamer (JetPack's has it)"
    return [
        Ability("showing a window", window, name if window else _HEADLESS),
        Ability("CSI cameras (csi://0)", csi, name if csi else without),
    ]
