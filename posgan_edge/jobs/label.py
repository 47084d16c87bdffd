"""Labelling the faces of many pictures on many machines, with Ray Data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posgan_edge.errors import PosganError
from posgan_edge.jobs.cluster import Share, connect, load_ray, pool_size
from posgan_edge.jobs.label_input import Pictures, Tables, find_input
from posgan_edge.jobs.label_work import Work

if TYPE_CHECKING:
    from posgan_edge.jobs.label_output import Output

#: Bytes of a block of pictures, where these go through shared memory.
_BLOCK_BYTES = 16 << 20
#: Logical memory of the filter, beside that of the names.
_FILTER_BYTES = 64 << 20
#: How often a batch is tried again after its process or machine died.
_RETRIES = 10


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

    from posgan_edge.jobs.label_names import FinishedFilter

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
        checkpoint_filter_cls=FinishedFilter,
    )
    config.checkpoint_actor_memory_bytes = _FILTER_BYTES
    context.checkpoint_config = config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.")
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
    """The last line of a Ray error that holds the cause; the others are a trace and hints."""
    cause: BaseException | None = error
    while cause is not None and isinstance(getattr(cause, "cause", None), BaseException):
        cause = cause.cause  # type: ignore[attr-defined]
    lines = [line.strip() for line in str(cause or error).replace("\\n", "\n").splitlines()]
    hints = ("Failed to apply UDF", "To change retry attempts")
    told = [line for line in lines if line and not line.startswith(hints)]
    return (told[-1] if told else type(error).__name__)[:200]
