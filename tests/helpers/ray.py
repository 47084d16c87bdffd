"""A Ray cluster of two nodes on this machine, and processes of it to kill."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
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


class Machines:
    """A cluster as users start it: ``ray start --head``, and ``ray start --address`` for a second
    node. Each command has its own process, below which all of its node's are. The cluster asks for
    a token; ``environment`` has it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._log = folder / "ray.log"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
        }  # fmt: skip
        # Sockets lie in this folder, and their names must be short.
        self._place = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self.head = self._start("--head", "--port", str(port), "--include-dashboard=false",
                                "--temp-dir", self._place)  # fmt: skip
        self.second: subprocess.Popen[bytes] | None = None
        try:
            until(lambda: self._told(1), 120)
            self.second = self.add()
        except BaseException:
            self.close()
            raise

    def add(self) -> subprocess.Popen[bytes]:
        """Starts another node, and waits for it."""
        before = self._log.read_text().count("Ray runtime started.")
        node = self._start("--address", self.address)
        until(lambda: self._told(before + 1), 120)
        return node

    def kill_second(self) -> None:
        """Ends the second node as a power failure would."""
        assert self.second is not None
        _end(self.second)

    def close(self) -> None:
        for node in (self.second, self.head):
            if node is not None:
                _end(node)
        shutil.rmtree(self._place, ignore_errors=True)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", *options, "--block",
                 "--num-cpus", "3", "--node-ip-address", "127.0.0.1",
                 "--memory", str(NODE["memory"]), "--object-store-memory", str(STORE)],
                env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def _told(self, count: int) -> bool:
        text = self._log.read_text()
        return text.count("Ray runtime started.") >= count


def _end(node: subprocess.Popen[bytes]) -> None:
    """Kills a node's processes, all at once."""
    for pid in [*processes(node.pid, ""), node.pid]:
        with suppress(ProcessLookupError):
            kill(pid)
    node.wait()


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
