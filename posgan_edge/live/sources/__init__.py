"""Where frames come from: pictures, videos, cameras, streams, raw frames, a moving portrait."""

from posgan_edge.live.sources.base import Source, SourceLost, picture_frame
from posgan_edge.live.sources.uri import is_picture, open_source, pictures_of

__all__ = ["Source", "SourceLost", "is_picture", "open_source", "picture_frame", "pictures_of"]
