"""A Ray cluster: reaching or starting one, and how many actors it has room for."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

from posgan_edge.arrays import number, whole
from posgan_edge.errors import BadInput, UsageError, needing, one_line
from posgan_edge.faces.detector import quiet_stderr

#: Logical CPUs that Ray's filter of finished pictures takes in a resumed run. If the actors
#: took all, it would wait for ever.
FILTER_CPUS = 1
#: Bytes of shared memory for a Ray that is started here: names and results alone go through it.
STORE_BYTES = 256 << 20
#: Ray's variable that makes it send a token to a cluster at HOST:PORT.
_TOKENS = "RAY_AUTH_MODE"
#: How an HTTP/2 connection begins, and an empty SETTINGS frame. Ray's head, a gRPC server, sends a
#: SETTINGS frame (type 4) too.
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"


@dataclass(frozen=True)
class Share:
    """How the work is shared out.

    ``actors`` is the number of pipelines; None takes as many as the cluster has room for. Each one
    takes ``cores`` CPUs and ``gpus`` GPUs (fractions are allowed). An actor gets ``batch`` pictures
    at a time; a file of the output holds about ``per_file`` pictures.
    """

    actors: int | None = None
    cores: float = 1.0
    gpus: float = 0.0
    batch: int = 16
    per_file: int = 4096

    def __post_init__(self) -> None:
        if self.actors is not None:
            whole(self.actors, "actors", 1)
        number(self.cores, "cores", 0.01)
        number(self.gpus, "gpus", 0)
        whole(self.batch, "batch", 1)
        whole(self.per_file, "per_file", 1)


def load_ray() -> Any:
    """Returns the module ``ray`` with ``ray.data``, which sends no usage statistics.

    Raises MissingRuntime without it.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's native code would write warnings between the lines of this process.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with needing("ray", "labelling on many machines", "ray"):
        import ray
        import ray.data
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connects to a cluster, or starts one on this machine, unless this process is connected.

    Returns whether the caller has to disconnect. Raises UsageError for a bad address and BadInput
    if no cluster is there.
    """
    if ray.is_initialized():
        return False
    # Ray writes a line on its log level, therefore quiet_stderr.
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        # Logical CPUs: one more than there are cores, for the filter.
        with quiet_stderr():
            ray.init(
                address="local",
                num_cpus=(cores or 1) + FILTER_CPUS,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                **options,
            )
        return True
    if address != "auto":
        _reach(address)
    try:
        with quiet_stderr():
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address == "auto":
            raise BadInput(
                "no Ray cluster was found on this machine: start one with ray start --head, or "
                "give the address of another one"
            ) from error
        raise BadInput(
            f"{address}: no Ray cluster that can be used: {one_line(error)} ({_about_tokens()})"
        ) from error
    return True


def _about_tokens() -> str:
    """What to do if a cluster asks for a token, which Ray's error does not say."""
    if os.environ.get(_TOKENS) == "token":
        return "if its token is another one, give that: ray get-auth-token shows it at the head"
    return f"if it asks for a token, set {_TOKENS}=token: ray get-auth-token shows the token"


def _reach(address: str) -> None:
    """Raises an error at once where Ray would try for a minute and then end the process."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{address}: no address of a Ray cluster: give auto or HOST:PORT")
    hint = f"start its head with ray start --head --port {port}"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 5) as connection:
            connection.sendall(_HTTP2)
            reply = connection.recv(4)
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"{address}: no Ray cluster is there ({reason}): {hint}") from error
    if reply[3:] != b"\x04" and os.environ.get("RAY_USE_TLS", "0") == "0":
        raise BadInput(f"{address}: what is there is no Ray cluster: {hint}")


def pool_size(ray: Any, share: Share) -> int:
    """Returns the number of actors for this cluster.

    One CPU is left for the filter of finished pictures. Raises BadInput if there is room for none.
    """
    fit = 0
    cpus = gpus = 0.0
    spare = float(FILTER_CPUS)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        has = node["Resources"]
        cpu, gpu = has.get("CPU", 0.0), has.get("GPU", 0.0)
        cpus, gpus = cpus + cpu, gpus + gpu
        if cpu >= spare:
            cpu, spare = cpu - spare, 0.0
        room = cpu / share.cores
        fit += int(min(room, gpu / share.gpus) + 1e-6) if share.gpus else int(room + 1e-6)
    if fit < 1:
        gpu_part = f" and {share.gpus:g} GPUs" if share.gpus else ""
        raise BadInput(
            f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs; an actor takes {share.cores:g} CPUs"
            f"{gpu_part} of one machine, and {FILTER_CPUS} CPU has to stay free: give fewer"
        )
    return share.actors or fit
