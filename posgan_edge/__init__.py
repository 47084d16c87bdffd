"""Dense 3D faces on small machines: UV position maps from a face crop.

Importing this package loads no other; what it exports, as ``__init__.pyi`` lists it, loads where it
is used.
"""

import os
from importlib import import_module

__version__ = "0.1.0"

# ONNX Runtime reports its use to its makers unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _exports() -> dict[str, str]:
    """The module of each exported name. The stub is the one list of them; reading its lines takes
    no parser, whose import alone takes longer than that of this package."""
    stub = __loader__.get_data(os.path.join(__path__[0], "__init__.pyi")).decode()  # type: ignore[name-defined]
    lines = [line.split() for line in stub.splitlines() if line.startswith("from ")]
    return {name: module for _, module, _, name, *_ in lines}


_EXPORTS = _exports()
__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        value = globals()[name] = getattr(import_module(_EXPORTS[name]), name)
        return value
    raise AttributeError(f"module 'posgan_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
