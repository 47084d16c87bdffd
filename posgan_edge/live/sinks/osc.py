"""Sending blendshapes and head rotation to avatar programs: VMC protocol over OSC."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge.arrays import FloatArray
from posgan_edge.errors import UsageError, needing
from posgan_edge.geometry.axes import quaternion
from posgan_edge.live.sinks.base import Result, Sink

#: Largest datagram in bytes; it fits into an Ethernet frame.
_DATAGRAM = 1400
_SCHEME = "osc://"


def parse_osc(text: str) -> tuple[str, int]:
    """Returns (host, port) of ``HOST:PORT`` or ``osc://HOST:PORT``.

    Raises UsageError for any other text.
    """
    host, _, port = text.removeprefix(_SCHEME).rpartition(":")
    host = host.strip("[]")
    if not host or "/" in host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"{text}: give HOST:PORT of the program that listens, 127.0.0.1:39539")
    if not int(port):
        raise UsageError(f"{text}: port 0 cannot be sent to")
    return host, int(port)


class OscSink(Sink):
    """Sends the first face of each frame over UDP, as a VMC performer.

    Every frame sends ``/VMC/Ext/OK`` (1) and ``/VMC/Ext/T`` (the frame's time in seconds). A frame
    with a face also sends ``/VMC/Ext/Bone/Pos`` (``Head``, position 0, rotation x, y, z, w in
    Unity's axes), a ``/VMC/Ext/Blend/Val`` for each of the 52 ARKit names, and
    ``/VMC/Ext/Blend/Apply``. Messages are bundled into datagrams that fit into an Ethernet frame.

    ``lost`` counts frames that could not be sent or were refused by the receiver. ``notify`` is
    called with one line for the first of them, and with one line for the total at the end. UDP does
    not report frames that no program receives on another machine. Raises UsageError for a bad
    address, and MissingRuntime without python-osc.
    """

    expressions = True

    def __init__(self, address: str, notify: Callable[[str], None] = lambda _: None) -> None:
        with needing("python-osc", "sending to avatar programs", "osc"):
            from pythonosc.osc_bundle_builder import OscBundleBuilder
        host, port = parse_osc(address)
        shown = f"[{host}]" if ":" in host else host
        self._bundle, self._notify = OscBundleBuilder, notify
        self.name = f"{_SCHEME}{shown}:{port}"
        self.sent, self.lost, self._open = 0, 0, True
        self._socket: socket.socket | None = None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, target = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            # A connected socket reports an error if no program listens.
            self._socket.connect(target)
        except (OSError, UnicodeError) as error:
            self._close_socket()
            self._why(error)

    def write(self, result: Result) -> None:
        self.sent += 1
        if self._socket is None:
            self.lost += 1
            return
        try:
            for datagram in self._datagrams(messages(result)):
                self._socket.send(datagram)
        except OSError as error:
            if not self.lost:
                self._why(error)
            self.lost += 1

    def close(self) -> None:
        if self._open and self.lost:
            self._notify(f"{self.name}: {self.lost} of {self.sent} frames were lost")
        self._open = False
        self._close_socket()

    def _why(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        self._notify(f"{self.name}: cannot be reached ({reason}); the run continues")

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _datagrams(self, wanted: Iterator[tuple[str, tuple[Any, ...]]]) -> Iterator[bytes]:
        from pythonosc.osc_bundle_builder import IMMEDIATELY
        from pythonosc.osc_message_builder import OscMessageBuilder

        bundle, size = self._bundle(IMMEDIATELY), 16
        for address, values in wanted:
            builder = OscMessageBuilder(address)
            for value in values:
                builder.add_arg(value)
            message = builder.build()
            if size + message.size + 4 > _DATAGRAM:
                yield bundle.build().dgram
                bundle, size = self._bundle(IMMEDIATELY), 16
            bundle.add_content(message)
            size += message.size + 4
        yield bundle.build().dgram


def messages(result: Result) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yields the VMC messages of a frame as (address, values)."""
    yield "/VMC/Ext/OK", (1,)
    yield "/VMC/Ext/T", (float(result.frame.timestamp),)
    face = result.faces[0] if result.faces else None
    shapes = face.blendshapes if face is not None else None
    if face is None or shapes is None:
        return
    turn = tuple(float(v) for v in unity_quaternion(face.pose.rotation))
    yield "/VMC/Ext/Bone/Pos", ("Head", 0.0, 0.0, 0.0, *turn)
    for name, value in shapes.items():
        yield "/VMC/Ext/Blend/Val", (name, float(value))
    yield "/VMC/Ext/Blend/Apply", ()


def unity_quaternion(rotation: FloatArray) -> NDArray[np.float64]:
    """Converts a head's rotation (3, 3) to Unity's axes. Returns a quaternion (x, y, z, w).

    In ``rotation``, x points to the picture's right, y up, z towards the camera. In Unity, x points
    to the person's right, y up, z forward.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    turn = flip[:, None] * np.asarray(rotation, np.float64) * flip
    return quaternion(turn)
