"""The processes that load and augment the pictures of a training run."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Listener
from tempfile import gettempdir

import numpy as np
import torch
from torch import Tensor

from posgan_edge.errors import BadInput
from posgan_edge.training.datasets import AugmentedMaps, EpochBatches

_log = logging.getLogger(__name__)


class Loader:
    """Iterates over batches, each a list of tensors, which ``workers`` processes load.

    Raises BadInput for pictures that cannot be read, and where the processes cannot be started or
    die.
    """

    def __init__(
        self, faces: AugmentedMaps, batches: EpochBatches, workers: int, seed: int
    ) -> None:
        # More processes than batches would have nothing to do.
        self.workers = min(workers, len(batches))
        cores = os.cpu_count() or 1
        if self.workers > 4 * cores:
            _log.warning("workers = %d: many processes for %d cores", self.workers, cores)
        if self.workers:
            _check_sockets()
        self._loader = torch.utils.data.DataLoader(
            faces,
            batch_sampler=batches,
            num_workers=self.workers,
            persistent_workers=False,
            worker_init_fn=_prepare,
            # One of its own: to begin an epoch anew draws nothing from the other generator.
            generator=torch.Generator().manual_seed(seed),
        )

    def __iter__(self) -> Iterator[list[Tensor]]:
        try:
            with warnings.catch_warnings():
                # Said above, in one line.
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
                loaded = iter(self._loader)
            yield from loaded
        except BadInput as error:
            raise BadInput(_last(error)) from error
        except (RuntimeError, OSError) as error:
            if not self.workers:
                raise
            raise BadInput(
                f"workers = {self.workers}: the processes that load pictures failed "
                f"({_last(error)[:160]}): use fewer"
            ) from error


def _check_sockets() -> None:
    """Raises BadInput where the folder for temporary files takes no sockets.

    The processes hand over what they loaded through such a socket. Without it, they would print a
    traceback, and training would wait for ever.
    """
    try:
        Listener().close()
    except OSError as error:
        raise BadInput(
            f"TMPDIR {gettempdir()}: no socket can be made there ({error.strerror or error}): set "
            "TMPDIR to a folder with a shorter name, or workers to 0"
        ) from error


def _last(error: Exception) -> str:
    """The message of an error, without the traceback that PyTorch puts before it."""
    text = str(error)
    if "Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _prepare(_: int) -> None:
    """Prepares a process that loads data: it ignores signals, which only the trainer handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    np.seterr(all="ignore")
