"""Labelling the faces of many pictures on many machines, with Ray Data."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posgan_edge.arrays import number, whole
from posgan_edge.errors import BadInput, PosganError, UsageError, missing, one_line
from posgan_edge.faces.detector import quiet_stderr
from posgan_edge.jobs.label_input import Pictures, Tables, find_input
from posgan_edge.jobs.label_work import Work

if TYPE_CHECKING:
    from posgan_edge.jobs.label_output import Output

#: Logical CPUs that Ray's filter of finished pictures takes in a run that goes on. If the actors
#: took all, it would wait for ever.
FILTER_CPUS = 1
#: Bytes of shared memory for a Ray that is started here: names and results alone go through it.
STORE_BYTES = 256 << 20
#: Bytes of a block of pictures, where these go through shared memory.
_BLOCK_BYTES = 16 << 20
#: Logical memory of the filter, beside that of the names.
_FILTER_BYTES = 64 << 20
#: How an HTTP/2 connection begins, and an empty SETTINGS frame. Ray's head, a gRPC server, sends a
#: SETTINGS frame (type 4) too.
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
#: How often a batch is tried again after its process or machine died.
_RETRIES = 10


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


@dataclass(frozen=True)
class Labelled:
    """What a run did: pictures and faces of this run alone, and ``failed``, a line for each picture
    that failed in this run or an earlier one of the same folder."""

    pictures: int
    faces: int
    failed: list[str]


def label(
    source: str,
    output: str,
    work: Work,
    share: Share | None = None,
    address: str | None = None,
    resume: bool = False,
    columns: tuple[str, str] = ("path", "bytes"),
    tell: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Labelled:
    """Labels all pictures of ``source`` and writes a folder that ``read_faces`` reads.

    ``source`` is as ``find_input`` takes it, ``columns`` are the names and bytes of pictures in a
    Parquet table. ``address`` is ``auto`` or HOST:PORT of a Ray cluster; None starts Ray on this
    machine. With ``resume``, the pictures that ``output`` holds already are left out. ``tell`` is
    called with a line on the size of the work; ``progress`` shows Ray's progress bars.

    Raises UsageError if ``output`` exists and ``resume`` is False, BadInput for an input or cluster
    that cannot be used, MissingRuntime without Ray, PosganError if the run fails.
    """
    share = share or Share()
    ray = load_ray()
    from posgan_edge.jobs.label_output import Output

    found = find_input(source, columns)
    place = Output(output)
    place.check(resume)
    code = work.checked()
    mine = connect(ray, address)
    try:
        actors = pool_size(ray, share)
        place.begin(work, code)
        what = f"{len(found)} pictures" if isinstance(found, Pictures) else found.kind
        tell(f"{what}, {actors} actors")
        done = _run(ray, found, place, work, share, actors, progress)
    finally:
        if mine:
            ray.shutdown()
    return Labelled(*done, place.failed())


def load_ray() -> Any:
    """Returns the module ``ray`` with ``ray.data``, which sends no usage statistics.

    Raises MissingRuntime without it.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's native code would write warnings between the lines of this process.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing("ray", "labelling on many machines", "ray") from error
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
        raise BadInput(f"{address}: no Ray cluster that can be used: {one_line(error)}") from error
    return True


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


def _run(
    ray: Any,
    found: Pictures | Tables,
    place: Output,
    work: Work,
    share: Share,
    actors: int,
    progress: bool,
) -> tuple[int, int]:
    """Runs the Ray job. Returns the numbers of pictures and faces."""
    from posgan_edge.jobs.label_output import FacesSink
    from posgan_edge.jobs.label_work import Labeler

    threads = max(1, int(share.cores))
    with _context(ray, found, place, progress):
        data = found.dataset(ray, share.batch, actors)
        labelled = data.map_batches(
            Labeler,
            fn_constructor_args=(
                work,
                threads,
                place.common,
                found.name_column,
                found.bytes_column,
            ),
            batch_size=share.batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=share.cores,
            num_gpus=share.gpus or None,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
        sink = FacesSink(place, found.name_column, share.per_file)
        try:
            labelled.write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=actors)
        except PosganError:
            raise
        except Exception as error:
            raise PosganError(f"{place.folder}: the Ray job failed: {_reason(error)}") from error
    return sink.pictures, sink.faces


@contextmanager
def _context(ray: Any, found: Pictures | Tables, place: Output, progress: bool) -> Iterator[None]:
    """Sets Ray Data's options for one run, and puts the old ones back."""
    from ray.data.checkpoint import CheckpointConfig
    from ray.util.annotations import RayDeprecationWarning
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    kept = ray.data.DataContext
    before = kept.get_current()
    log = logging.getLogger("ray.data")
    level = log.level
    context = before.copy()
    context.enable_progress_bars = progress
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    config = CheckpointConfig(
        id_column=found.name_column,
        checkpoint_path=place.checkpoint,
        delete_checkpoint_on_success=False,
        override_filesystem=place.filesystem,
    )
    config.checkpoint_actor_memory_bytes = _FILTER_BYTES
    context.checkpoint_config = config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # What names no machine is the filter. It stays where the driver is, so that it never waits
        # for a CPU after a machine was lost.
        context.scheduling_strategy = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        log.setLevel(logging.CRITICAL)
        kept._set_current(context)
        try:
            yield
        finally:
            kept._set_current(before)
            log.setLevel(level)


def _reason(error: BaseException) -> str:
    """The last line of a Ray error, which holds the cause; its others are a trace."""
    cause: BaseException | None = error
    while cause is not None and isinstance(getattr(cause, "cause", None), BaseException):
        cause = cause.cause  # type: ignore[attr-defined]
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
