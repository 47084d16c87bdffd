"""Processes that work on pictures; what they made comes in the order of the pictures."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from posgan_edge.closing import Closing
from posgan_edge.errors import BadInput, PosganError

Task = TypeVar("Task")
Made = TypeVar("Made")

#: Tasks that a process has at a time, and that may wait for an earlier one, for each process.
_AT_HAND, _AHEAD = 2, 16
#: Processes that may die one after the other, without a result between.
_MOST_DEATHS = 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Process:
    process: Any
    pipe: Connection
    #: Positions and tasks that it has, the oldest first.
    tasks: deque[tuple[int, Any]] = field(default_factory=deque)
    ready: bool = False


class Pool(Closing, Generic[Task, Made]):
    """Processes that each make a worker by ``open_worker()`` and call it with one task after the
    other.

    ``open_worker`` is pickled; it returns a context manager, which yields the worker. ``died``
    makes a result for a task on which a process died; it is called with the task and the reason,
    and a new process takes the place of the old one. ``started`` is called with the number of each
    process. Raises what ``open_worker`` raises, and BadInput if processes cannot be started or die
    again and again. A context manager. Processes do not react to SIGINT and SIGTERM: they end when
    the pool is closed, or when this process dies.
    """

    def __init__(
        self,
        count: int,
        open_worker: Callable[[], Any],
        died: Callable[[Task, str], Made],
        started: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._open_worker, self._died, self._started = open_worker, died, started
        self._context = multiprocessing.get_context("spawn")
        self._deaths = 0
        self._processes: list[_Process] = []
        try:
            for _ in range(count):
                self._processes.append(self._start())
        except BaseException:
            self.close()
            raise

    def results(self, tasks: Iterator[Task], more: Callable[[int], bool]) -> Iterator[Made]:
        """Yields what the processes make of the tasks, in their order.

        ``more`` is called with the number of tasks that are not yet yielded, and says whether
        another task may begin. It ends when ``more`` says no and all tasks that have begun are
        yielded.
        """
        made: dict[int, Made] = {}
        again: deque[tuple[int, Task]] = deque()
        begun = given = 0
        ended = False
        while True:
            for process in self._processes:
                while len(process.tasks) < _AT_HAND:
                    if again:
                        self._give(process, *again.popleft())
                        continue
                    waiting = begun - given
                    if ended or waiting >= _AHEAD * len(self._processes) or not more(waiting):
                        break
                    task = next(tasks, None)
                    if task is None:
                        ended = True
                        break
                    self._give(process, begun, task)
                    begun += 1
            if given == begun:
                return
            self._take(made, again)
            while given in made:
                yield made.pop(given)
                given += 1

    def close(self) -> None:
        """Ends the processes. A second call does nothing."""
        for process in self._processes:
            process.pipe.close()
        for process in self._processes:
            process.process.join(5)
            if process.process.is_alive():
                process.process.kill()
                process.process.join()
        self._processes = []

    def _start(self) -> _Process:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(there, self._open_worker), name="pictures", daemon=True
        )
        try:
            with _signals_held():
                process.start()
        except OSError as error:
            raise BadInput(f"a process cannot be started: {error.strerror}") from error
        finally:
            there.close()
        if process.pid is not None:
            self._started(process.pid)
        return _Process(process, here)

    def _give(self, process: _Process, position: int, task: Task) -> None:
        process.tasks.append((position, task))
        # A process that has died is noticed when its result is waited for.
        with suppress(BrokenPipeError):
            process.pipe.send(task)

    def _take(self, made: dict[int, Made], again: deque[tuple[int, Task]]) -> None:
        """Waits a moment for results. Tasks of a process that died are added to ``again``."""
        pipes: dict[object, _Process] = {process.pipe: process for process in self._processes}
        for pipe in wait([process.pipe for process in self._processes], 0.1):
            process = pipes[pipe]
            try:
                found = process.pipe.recv()
            except (EOFError, ConnectionError):
                self._replace(process, made, again)
                continue
            if isinstance(found, PosganError):
                raise found
            if not process.ready:
                process.ready = True
                continue
            self._deaths = 0
            made[process.tasks.popleft()[0]] = found

    def _replace(
        self, process: _Process, made: dict[int, Made], again: deque[tuple[int, Task]]
    ) -> None:
        process.process.join()
        reason = _reason(process.process.exitcode)
        if not process.ready:
            raise BadInput(f"a process for pictures died when it was started ({reason})")
        self._deaths += 1
        if self._deaths > _MOST_DEATHS:
            raise BadInput(f"{self._deaths} processes died one after the other ({reason})")
        process.pipe.close()
        if process.tasks:
            position, task = process.tasks.popleft()
            made[position] = self._died(task, reason)
            again.extend(process.tasks)
        self._processes[self._processes.index(process)] = self._start()


def _work(pipe: Connection, open_worker: Callable[[], Any]) -> None:
    """What a process does: tasks from the pipe until it is closed."""
    # Ctrl-C goes to all processes of a terminal; the first one decides.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # The pipe fails when the first process has ended or been killed.
    with suppress(EOFError, ConnectionError):
        try:
            with open_worker() as worker:
                pipe.send(True)
                while True:
                    pipe.send(worker(pipe.recv()))
        except PosganError as error:
            pipe.send(error)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Holds signals back, also from a process that is started meanwhile, which is not yet ready to
    ignore them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # It is started with the first process, and would let the signals through.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
