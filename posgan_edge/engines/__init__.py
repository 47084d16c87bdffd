"""Engines run a network on one runtime: pictures in, position maps out."""

from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.engines.loader import load_engine

__all__ = ["Engine", "EngineInfo", "load_engine"]
