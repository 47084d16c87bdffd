"""Engines: anything that turns network inputs into position maps, behind one protocol."""

from posgan_edge.engines.base import Engine, EngineInfo, load_engine

__all__ = ["Engine", "EngineInfo", "load_engine"]
