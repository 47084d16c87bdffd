"""A real Triton Inference Server out of the nvidia-pytriton wheel, on ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest


def server_files() -> Path:
    """The folder of the server in the wheel; skips the test where it is not installed."""
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        pytest.skip("nvidia-pytriton, which holds a Triton server, is not installed")
    folder = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (folder / "python_backend_stubs" / version).is_dir():
        pytest.skip(f"nvidia-pytriton holds no Python {version} backend")
    return folder


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """``tritonserver`` of a repository; ``grpc``, ``http`` and ``metrics`` are its ports."""

    def __init__(self, folder: Path, repository: Path, ports: list[int] | None = None):
        files, self.log = server_files(), folder / "triton.log"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        backends = folder / "backends"
        if not backends.exists():
            shutil.copytree(files / "backends", backends)
            stub = files / "python_backend_stubs" / version / "triton_python_backend_stub"
            shutil.copy(stub, backends / "python")
        self.ports = ports or free_ports(3)
        self.shared = f"posgan_test_{os.getpid()}_{time.monotonic_ns()}_"
        self.http, self.grpc, self.metrics = self.ports
        libraries = [
            sysconfig.get_config_var("LIBDIR"),
            str(files.parents[1].joinpath("nvidia_pytriton.libs")),
        ]
        environment = os.environ | {
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
            # The Python backend takes the environment of the python3 that it finds first.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    files / "bin" / "tritonserver",
                    f"--model-repository={repository}", f"--backend-directory={backends}",
                    "--http-address=127.0.0.1", f"--http-port={self.http}",
                    "--grpc-address=127.0.0.1", f"--grpc-port={self.grpc}",
                    "--metrics-address=127.0.0.1", f"--metrics-port={self.metrics}",
                    f"--backend-config=python,shm-region-prefix-name={self.shared}",
                    "--allow-gpu-metrics=false", "--exit-timeout-secs=5",
                ],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds: float = 90) -> Server:
        """Waits until every model is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                self.get(self.http, "v2/health/ready")
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        raise AssertionError(f"not ready: {self.log.read_text()[-3000:]}")

    def get(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def kill(self) -> None:
        """Ends the server and its Python processes at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()
        for left in Path("/dev/shm").glob(f"{self.shared}*"):
            left.unlink(missing_ok=True)
