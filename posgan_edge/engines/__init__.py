"""Engines: what turns network inputs into position maps. They infer and do nothing else."""

from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.engines.loader import load_engine

__all__ = ["Engine", "EngineInfo", "load_engine"]
