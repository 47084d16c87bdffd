"""The landmark table: how a program without this package reads a position map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from posgan_edge.files import write_whole
from posgan_edge.geometry.crop import BOX_SCALE
from posgan_edge.geometry.landmarks import LANDMARK_NAMES
from posgan_edge.geometry.layout import DEFAULT_SET, UvLayout

_CROP = (
    "A square whose centre is that of the box round the landmarks and whose side is box_scale "
    "times the longer side of that box. Pixel i of a picture spans [i, i + 1). The crop spans 0 "
    "to 1 in x (right) and y (down); z points towards the camera and has the same unit. A point q "
    "of the crop lies in the picture at centre + side * R * (q - 0.5), where R turns clockwise on "
    "the screen."
)
_READ = (
    "u points right and v down, both from 0 to 1. The centre of pixel i of a map of size M is at "
    "(i + 0.5) / M. Reads are bilinear; outside the outermost centres the edge value is held."
)


def landmark_table(layout: UvLayout, input_size: int, map_size: int) -> dict[str, Any]:
    """Returns the UV positions of a layout's landmarks, and the conventions of crop and network.

    ``input_size`` and ``map_size`` are the sides of the network's picture and map in pixels. The
    table holds plain numbers, lists and text, ready for JSON. ``landmark_set`` is in it unless the
    landmarks are the default set.
    """
    default = layout.landmark_set == DEFAULT_SET
    return {
        "format": "posgan-edge landmark table",
        "version": 1,
        "layout": layout.name,
        "input": {
            "name": "image",
            "shape": ["N", 3, input_size, input_size],
            "type": "float32",
            "values": "RGB, 0 to 1",
        },
        "output": {
            "name": "position_map",
            "shape": ["N", 3, map_size, map_size],
            "type": "float32",
            "values": "x, y, z in units of the crop's side",
        },
        "crop": {"box_scale": BOX_SCALE, "convention": _CROP},
        "reading": _READ,
        "landmark_names": list(LANDMARK_NAMES),
        "landmark_uv": [[float(u), float(v)] for u, v in layout.landmark_uv],
        **({} if default else {"landmark_set": layout.landmark_set}),
    }


def save_landmark_table(path: str | Path, layout: UvLayout, input_size: int, map_size: int) -> None:
    """Writes ``landmark_table`` as JSON. Raises BadInput if it cannot be written."""
    text = json.dumps(landmark_table(layout, input_size, map_size), indent=1)
    write_whole(path, text + "\n")
