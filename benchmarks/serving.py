"""Latency and requests a second of a network on a Triton server, with and without shared memory.

    python benchmarks/serving.py [--address triton://127.0.0.1:8001/edge] [--batches 1 4 16]
                                 [--clients 1 2 4 8] [--rounds 300] [--requests 400] [--json F]

Without an address, the server of the tests is started (wheel nvidia-pytriton, backend `python`);
with one, the server must run on this machine. Latency is that of one client, for random pictures,
both ways in turns. Requests a second are those of clients at the same time, each a thread with one
picture in a request: the median of three runs, both ways in turns. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np

from posgan_edge.documents import save
from posgan_edge.engines.triton import TritonEngine
from posgan_edge.evaluation.latency import Latency
from posgan_edge.evaluation.serving import WAYS, Served
from posgan_edge.jobs.triton import Serving, write_repository
from posgan_edge.system import machine_block
from posgan_edge.timing import take_turns

#: Runs of which the median counts.
RUNS = 3


@contextmanager
def started() -> Iterator[str]:
    """Starts the server of the tests, and yields the address of its network."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.triton import Server

    with tempfile.TemporaryDirectory() as place:
        write_repository(Path(place, "repository"), "edge", Serving("python"))
        server = Server(Path(place), Path(place, "repository"))
        try:
            yield f"triton://127.0.0.1:{server.wait().grpc}/edge"
        finally:
            server.kill()


def opened(address: str, way: str) -> TritonEngine:
    """An engine that goes this way."""
    shared = way == WAYS[0]
    with mock.patch("posgan_edge.engines.triton.is_here", return_value=shared):
        engine = TritonEngine(address)
    if ("shared memory" in engine.info.runtime) is not shared:
        raise SystemExit(f"{address}: the server shares no memory with this process")
    return engine


def latencies(
    engines: dict[str, TritonEngine], batches: Sequence[int], rounds: int
) -> dict[str, dict[str, Latency]]:
    found = {}
    for size in batches:
        side = engines[WAYS[0]].info.input_size
        images = np.random.default_rng(size).random((size, 3, side, side), np.float32)
        calls = {way: partial(engine.infer, images) for way, engine in engines.items()}
        times = take_turns(calls, rounds)
        found[str(size)] = {way: Latency.of(values, 5) for way, values in times.items()}
    return found


def requests_a_second(engine: TritonEngine, clients: int, requests: int) -> float:
    side = engine.info.input_size
    image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: engine.infer(image), range(2 * clients)))
        start = time.perf_counter()
        list(pool.map(lambda _: engine.infer(image), range(requests)))
        return requests / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="triton://HOST:PORT/NAME of a server on this machine")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        address = options.address or stack.enter_context(started())
        engines = {way: stack.enter_context(opened(address, way)) for way in WAYS}
        server = engines[WAYS[1]].info.runtime.partition(" (")[0].replace("triton", "Triton")
        latency = latencies(engines, options.batches, options.rounds)
        rates: dict[str, dict[str, float]] = {}
        for clients in options.clients:
            runs: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(RUNS):
                for way, engine in engines.items():
                    runs[way].append(requests_a_second(engine, clients, options.requests))
            rates[str(clients)] = {way: median(values) for way, values in runs.items()}
    for size, ms in latency.items():
        print(f"{size} pictures in a request, median ms:",
              ", ".join(f"{way} {values.median:.2f}" for way, values in ms.items()))  # fmt: skip
    for clients_, rate in rates.items():
        print(f"{clients_} clients, requests a second:",
              ", ".join(f"{way} {value:.0f}" for way, value in rate.items()))  # fmt: skip
    if options.json:
        save(options.json, Served(machine_block(), server, latency, rates))


if __name__ == "__main__":
    main()
