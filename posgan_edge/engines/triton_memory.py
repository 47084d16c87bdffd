"""Memory that this process shares with a Triton server on the same machine."""

from __future__ import annotations

import mmap
import os
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Where Linux keeps POSIX shared memory.
FOLDER = Path("/dev/shm")
#: Seconds that the server may take to register a region or to forget it.
CALL_SECONDS = 5.0
_HERE = re.compile(r"(localhost|127(\.\d+){3}|\[::1\]):\d+")


def is_here(host: str) -> bool:
    """Whether ``HOST:PORT`` names this machine, and its memory can be shared."""
    return _HERE.fullmatch(host) is not None and FOLDER.is_dir()


class Region:
    """One block of shared memory, registered at the server: the input first, then the output.

    The block has no name in ``FOLDER`` once the server has it, so that nothing is left there by a
    process that is killed. Raises OSError if there is no such memory, and the client's error if the
    server is away or cannot open it.
    """

    def __init__(self, client: Any, taken: int, returned: int) -> None:
        self._client, self._taken, self._size = client, taken, taken + returned
        self.name = f"posgan-edge-{os.getpid()}-{secrets.token_hex(8)}"
        file = FOLDER / self.name
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Memory that is only promised would end the process when it is written.
            os.posix_fallocate(handle, 0, self._size)
            self._memory = mmap.mmap(handle, self._size)
            client.register_system_shared_memory(
                self.name, f"/{self.name}", self._size, client_timeout=CALL_SECONDS
            )
        finally:
            os.close(handle)
            file.unlink(missing_ok=True)

    def put(self, tensor: Any, values: NDArray[Any]) -> None:
        """Makes ``values`` the content of an ``InferInput``. They must fit."""
        view: NDArray[Any] = np.ndarray(values.shape, values.dtype, self._memory)
        view[...] = values
        tensor.set_shared_memory(self.name, values.nbytes)

    def ask(self, output: Any, size: int) -> None:
        """Has an ``InferRequestedOutput`` of ``size`` bytes written into the region."""
        output.set_shared_memory(self.name, size, offset=self._taken)

    def get(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Returns a copy of the output."""
        return np.ndarray(shape, dtype, self._memory, offset=self._taken).copy()

    def close(self) -> None:
        """Has the server forget the region. A server that is away is no error."""
        try:
            self._client.unregister_system_shared_memory(self.name, client_timeout=CALL_SECONDS)
        except Exception:  # tritonclient's and gRPC's own classes
            return
