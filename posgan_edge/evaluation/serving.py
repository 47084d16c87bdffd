"""The record of benchmarks/serving.py: a Triton server with and without shared memory."""

from __future__ import annotations

from typing import Any, ClassVar

from posgan_edge.documents import Document
from posgan_edge.evaluation.latency import Latency

#: How crops and maps go between client and server: names in the record.
WAYS = ("shared memory", "gRPC")


class Served(Document, frozen=True):
    """Figures by ``WAYS``: ``latency_ms`` of one client by pictures in a request, and
    ``requests_per_second`` of one picture each by clients at the same time."""

    kind: ClassVar[str] = "record of a served network"

    machine: dict[str, Any]
    server: str
    latency_ms: dict[str, dict[str, Latency]]
    requests_per_second: dict[str, dict[str, float]]
