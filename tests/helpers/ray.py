"""A Ray cluster of two nodes on this machine, and processes of it to kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Bytes of shared memory of each node.
STORE = 100 << 20
NODE: dict[str, Any] = {"num_cpus": 3, "memory": 4 << 30, "object_store_memory": STORE}


def start_cluster() -> Any:
    """A head and a second node, with three logical CPUs each."""
    from posgan_edge.jobs.cluster import load_ray

    load_ray()
    # Ray's processes are nice, and would wait for all others where a test is not alone.
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    return cluster


def processes(root: int, title: str) -> list[int]:
    """The processes below ``root`` with ``title`` in their command line."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text()
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        pid = int(entry.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        if title in line:
            found.append(pid)

    def below(pid: int) -> bool:
        while pid in parents:
            if pid == root:
                return True
            pid = parents[pid]
        return False

    return [pid for pid in found if below(pid)]


def raylet(node: Any) -> int:
    """The process of a node's raylet, whose children its workers are."""
    return int(node.all_processes["raylet"][0].process.pid)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def until(what: Callable[[], Any], seconds: float = 240) -> Any:
    """Waits for something that is true, and returns it."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)
    return value
