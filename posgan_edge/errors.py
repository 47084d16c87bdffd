"""The error hierarchy. The CLI turns each class into one line and its exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PosganError(Exception):
    """Base of every error this package raises on purpose.

    >>> from posgan_edge import PosganError, load_engine
    >>> try:
    ...     load_engine("absent.onnx")
    ... except PosganError as error:
    ...     print(str(error).partition(":")[0])
    absent.onnx
    """

    exit_code = 4


class BudgetMissed(PosganError):
    """A stated accuracy or latency budget was not met."""

    exit_code = 1


class UsageError(PosganError):
    """Options that contradict each other or cannot be understood.

    ``fields`` are the names of those options in the library; the command line adds its flags.
    """

    exit_code = 2

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


class MissingRuntime(PosganError):
    """An optional dependency or device is not there; says what to install."""

    exit_code = 3


class BadInput(PosganError, ValueError):
    """A file, image, checkpoint, camera or argument that cannot be used; also a ValueError.

    >>> from posgan_edge import BadInput, FaceBox
    >>> try:
    ...     FaceBox(0, 0, -1, 1)
    ... except BadInput as error:
    ...     print(error)
    FaceBox is -1 x 1: sides must not be negative
    """

    exit_code = 4


#: What brings pycuda and the CUDA kernels; the kernels are on no package index.
INSTALL_GPU = "in a checkout of posgan-edge, pip install ./cpp_ext '.[gpu]'"


@contextmanager
def needing(package: str | None, purpose: str, extra: str) -> Iterator[None]:
    """For imports of optional packages: raises MissingRuntime if one is not installed. ``package``
    None: its name is that of the module."""
    try:
        yield
    except ImportError as error:
        raise MissingRuntime(
            f"{package or error.name} is not installed, and {purpose} needs it: "
            f"pip install 'posgan-edge[{extra}]'"
        ) from error


def picture_failure(name: str, error: Exception) -> str:
    """The line for an error that was raised while a picture was worked on; it names the picture."""
    if isinstance(error, PosganError):
        return str(error) if name in str(error) else f"{name}: {error}"
    if isinstance(error, MemoryError):
        return f"{name}: does not fit into memory"
    return f"{name}: {type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException, most: int = 160) -> str:
    """The start of another library's message, on one line."""
    return " ".join(str(error).split())[:most] or type(error).__name__
