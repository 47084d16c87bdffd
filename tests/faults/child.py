"""Runs posgan-edge and sends itself a signal when it touches a file for the Nth time.

    python -m tests.faults.child SIGNAL EVENT FOLDER ARGUMENT...

Counted are the files and folders below FOLDER that are opened for writing, made, renamed or
removed. EVENT 0 sends nothing; the count is then printed as the last line on standard error.
"""

import os
import sys
import threading
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR
PATHS = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,)}


def watch(number: int, wanted: int, folder: str) -> list[int]:
    """Counts file events, and sends the signal at event ``wanted``. Returns the count."""
    count, lock, process = [0], threading.Lock(), os.getpid()

    def seen(event: str, values: tuple[Any, ...]) -> None:
        if os.getpid() != process:  # a fork, which counts for itself
            return
        if event == "open":
            paths = [values[0]] if (values[2] or 0) & WRITES else []
        else:
            paths = [values[i] for i in PATHS.get(event, ())]
        if not any(isinstance(p, (str, os.PathLike)) and str(p).startswith(folder) for p in paths):
            return
        with lock:
            count[0] += 1
            here = count[0] == wanted
        if here:
            os.kill(os.getpid(), number)

    sys.addaudithook(seen)
    return count


def main() -> None:
    number, wanted, folder, *arguments = sys.argv[1:]
    from posgan_edge.cli import main as command

    sys.argv = ["posgan-edge", *arguments]
    count = watch(int(number), int(wanted), folder)
    try:
        command()
    finally:
        if wanted == "0":
            print(count[0], file=sys.stderr)


if __name__ == "__main__":
    main()
