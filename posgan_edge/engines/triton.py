"""A network on a Triton Inference Server, reached over gRPC."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from posgan_edge.engines.base import Engine, EngineInfo
from posgan_edge.engines.triton_memory import Region, is_here
from posgan_edge.errors import BadInput, PosganError, needing, one_line

_log = logging.getLogger(__name__)
#: Seconds for which a server that is away is asked again, and those that one call may take.
PATIENCE_SECONDS, CALL_SECONDS = 5.0, 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: What gRPC says where a server is away, is starting, or went while it worked.
_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_ADDRESS = re.compile(r"triton://([^/\s]+:\d{1,5})/([\w.-]+)")
_TYPES = {"TYPE_FP32": "FP32", "TYPE_FP16": "FP16"}
_NUMPY = {"FP32": np.float32, "FP16": np.float16}
_T = TypeVar("_T")


class TritonEngine(Engine):
    """A model ``image`` -> ``position_map`` on a server, as ``posgan-edge triton`` writes it.

    ``address`` is ``triton://HOST:PORT/NAME`` with the server's gRPC port. A call that finds the
    server away is repeated after growing pauses for ``patience`` seconds. Pictures and maps go
    through shared memory if the server runs on this machine and can open it; if it refuses, one
    line is logged and they go through gRPC. Raises BadInput for another address or model,
    PosganError for a server that stays away, MissingRuntime without tritonclient.
    """

    concurrent = True

    def __init__(self, address: str, patience: float = PATIENCE_SECONDS) -> None:
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise BadInput(f"{address}: give triton://HOST:PORT/NAME, the gRPC port is mostly 8001")
        self._address, self._patience = address, patience
        self._host, self._name = match.groups()
        self._grpc = load_client()
        self._client = self._grpc.InferenceServerClient(self._host)
        #: Regions that no call uses now; a call takes one, so that calls may run side by side.
        self._idle: list[Region] = []
        self._shares = is_here(self._host)
        try:
            self.info = self._described()
            if self._shares and (region := self._call(self._region)) is not None:
                self._idle.append(region)
                runtime = self.info.runtime.removesuffix(")") + ", shared memory)"
                self.info = replace(self.info, runtime=runtime)
        except BaseException:
            self._client.close()
            raise

    def _described(self) -> EngineInfo:
        """The server's description of the model, checked."""
        config = self._call(lambda: self._client.get_model_config(self._name)).config
        inputs = {port.name: port for port in config.input}
        outputs = {port.name: port for port in config.output}
        layout = config.parameters["layout"].string_value if config.parameters else ""
        image, maps = inputs.get("image"), outputs.get("position_map")
        if image is None or maps is None or not layout:
            raise BadInput(
                f"{self._address}: not a network of posgan-edge: input 'image', output "
                f"'position_map' and parameter 'layout' are needed (found {list(inputs)} -> "
                f"{list(outputs)}): write the repository with posgan-edge triton"
            )
        sizes = list(image.dims), list(maps.dims)
        if config.max_batch_size < 1 or any(len(s) != 3 or s[0] != 3 or s[1] < 1 for s in sizes):
            raise BadInput(
                f"{self._address}: its shapes are {sizes[0]} -> {sizes[1]}, not (3, S, S)"
            )
        name = self._grpc.model_config_pb2.DataType.Name
        kinds = [name(port.data_type) for port in (image, maps)]
        if wrong := [kind for kind in kinds if kind not in _TYPES]:
            raise BadInput(f"{self._address}: has {wrong[0]}, not TYPE_FP32 or TYPE_FP16")
        self._type, self._map_type = (_TYPES[kind] for kind in kinds)
        server = self._call(self._client.get_server_metadata)
        return EngineInfo(
            name=self._name,
            runtime=f"triton {server.version} ({self._host})",
            layout=layout,
            input_size=int(image.dims[1]),
            map_size=int(maps.dims[1]),
            precision=config.parameters["precision"].string_value or "fp32",
            batch=int(config.max_batch_size),
        )

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        fed = np.ascontiguousarray(images, _NUMPY[self._type])
        return np.asarray(self._call(lambda: self._request(fed)), np.float32)

    def _request(self, fed: NDArray[Any]) -> NDArray[Any]:
        """One request, through shared memory or through gRPC."""
        region = self._idle.pop() if self._idle else None
        known = region is not None
        if region is None and (region := self._region()) is None:
            return self._run(fed, None)
        try:
            maps = self._run(fed, region)
        except Exception as error:  # tritonclient's and gRPC's own classes
            region.close()
            # A server that was started again does not know the regions of before.
            if known and not _is_away(error):
                return self._request(fed)
            raise
        self._idle.append(region)
        return maps

    def _region(self) -> Region | None:
        """Memory for the largest batch, or None where it cannot be shared."""
        if not self._shares:
            return None
        info = self.info
        taken, returned = (
            info.batch * 3 * side**2 * np.dtype(_NUMPY[kind]).itemsize
            for side, kind in ((info.input_size, self._type), (info.map_size, self._map_type))
        )
        try:
            return Region(self._client, taken, returned)
        except Exception as error:  # tritonclient's and gRPC's own classes
            if _is_away(error):
                raise
            self._shares = False
            _log.warning(
                "%s: shares no memory (%s): pictures and maps go through gRPC",
                self._address, one_line(error, 80),
            )  # fmt: skip
            return None

    def _run(self, fed: NDArray[Any], region: Region | None) -> NDArray[Any]:
        size = self.info.map_size
        shape = (len(fed), 3, size, size)
        dtype = np.dtype(_NUMPY[self._map_type])
        tensor = self._grpc.InferInput("image", list(fed.shape), self._type)
        output = self._grpc.InferRequestedOutput("position_map")
        if region is None:
            tensor.set_data_from_numpy(fed)
        else:
            region.put(tensor, fed)
            region.ask(output, int(np.prod(shape)) * dtype.itemsize)
        result = self._client.infer(
            self._name, [tensor], outputs=[output], client_timeout=CALL_SECONDS
        )
        port = result.get_output("position_map")
        if port is None or tuple(port.shape) != shape:
            raise PosganError(f"{self._address}: returned no maps {shape}")
        return result.as_numpy("position_map") if region is None else region.get(shape, dtype)

    def _call(self, call: Callable[[], _T]) -> _T:
        """The result of a call, repeated while the server is away."""
        end, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                return call()
            except PosganError:
                raise
            except Exception as error:  # tritonclient's and gRPC's own classes
                if not _is_away(error):
                    raise BadInput(f"{self._address}: {one_line(error)}") from error
                if time.monotonic() + pause > end:
                    raise PosganError(
                        f"{self._address}: no Triton server responds at {self._host} "
                        f"({one_line(error, 80)}): start it, or give its gRPC port"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _release(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._client.close()


def _is_away(error: Exception) -> bool:
    """Whether an error says that the server is away, is starting, or went while it worked."""
    status = str(getattr(error, "status", lambda: "")())
    return any(word in status for word in _AWAY)


def load_client() -> Any:
    """The module ``tritonclient.grpc``. Raises MissingRuntime without it."""
    with needing("tritonclient", "a Triton server", "triton"):
        return import_module("tritonclient.grpc")
