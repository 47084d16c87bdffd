"""Where frames come from: pictures, videos, cameras, streams, raw frames, a moving portrait."""

from posgan_edge.live.sources.base import Source, SourceLost, picture_frame
from posgan_edge.live.sources.pictures import PicturesSource, is_picture, pictures_of
from posgan_edge.live.sources.uri import names_camera, open_source

__all__ = [
    "PicturesSource",
    "Source",
    "SourceLost",
    "is_picture",
    "names_camera",
    "open_source",
    "picture_frame",
    "pictures_of",
]
