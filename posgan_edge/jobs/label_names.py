"""Names of picture files as a data source of Ray Data, and the filter of finished ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

import pyarrow as pa
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.checkpoint.checkpoint_filter import NumpyArrayBasedCheckpointFilter
from ray.data.datasource import Datasource, ReadTask

from posgan_edge.live.sources.pictures import Picture


class Names(Datasource):
    """Columns ``source`` (name), ``path`` (bytes of the path) and ``member``, ``each`` in a block.

    Not Ray's ``read_images``: it ends the run at the first damaged picture, and a resumed run
    would read all pictures again before the finished ones are left out.
    """

    def __init__(self, pictures: list[Picture], each: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pictures, self._each = pictures, each

    def estimate_inmemory_data_size(self) -> int:
        """Returns the bytes of all names, about."""
        return sum(2 * len(picture.path) for picture in self._pictures)

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Returns a task for each block."""
        starts = range(0, len(self._pictures), self._each)
        blocks = (_block(self._pictures[start : start + self._each]) for start in starts)
        return [ReadTask(partial(_read, block), _metadata(block)) for block in blocks]


def _block(pictures: list[Picture]) -> pa.Table:
    # Names of files need not be UTF-8, strings in Arrow must.
    names = [p.name.encode(errors="backslashreplace").decode() for p in pictures]
    return pa.table(
        {
            "source": pa.array(names, pa.string()),
            "path": pa.array([os.fsencode(p.path) for p in pictures], pa.binary()),
            "member": pa.array([os.fsencode(p.member) for p in pictures], pa.binary()),
        }
    )


def _read(block: pa.Table) -> Iterable[pa.Table]:
    return [block]


def _metadata(block: pa.Table) -> BlockMetadata:
    return BlockMetadata(
        num_rows=block.num_rows, size_bytes=block.nbytes, exec_stats=None, input_files=None
    )


class FinishedFilter(NumpyArrayBasedCheckpointFilter):
    """Ray's filter of finished pictures, for blocks of pandas too: WebDataset's are such."""

    def filter_rows_for_block(self, block: Any) -> Any:
        """Returns the rows of a block that are not finished."""
        return super().filter_rows_for_block(BlockAccessor.for_block(block).to_arrow())
