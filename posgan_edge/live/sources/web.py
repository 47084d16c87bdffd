"""Fetching pictures from web addresses."""

from __future__ import annotations

import base64
import socket
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Timer
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

from posgan_edge import __version__
from posgan_edge.errors import BadInput, one_line
from posgan_edge.live.sources.base import shown

#: The largest picture that is fetched, in bytes, and the longest time that it may take, in seconds.
LARGEST, SECONDS = 256 << 20, 30.0
_BLOCK = 1 << 16


def fetch(uri: str, largest: int = LARGEST, seconds: float = SECONDS) -> bytes:
    """The bytes at a web address. A user name and password in it are sent to its host alone.

    Raises BadInput if they cannot be had, for more than ``largest`` bytes, and if it takes longer
    than about ``seconds``.
    """
    end = time.monotonic() + seconds
    connections: list[HTTPConnection] = []
    watch = Timer(seconds, _hang_up, [connections])
    watch.daemon = True
    watch.start()
    try:
        with _opener(connections).open(_request(uri), timeout=seconds) as stream:
            data = _body(stream, largest, end)
        reason = ""
    except HTTPError as error:
        reason = f"status {error.code} {error.reason}"
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a broken address
        reason = one_line(error)
    finally:
        watch.cancel()
    if time.monotonic() >= end:
        reason = f"it takes longer than {seconds:g} s"
    if reason:
        raise BadInput(f"{shown(uri)}: cannot be fetched: {' '.join(reason.split())}")
    return data


def _body(stream: HTTPResponse, largest: int, end: float) -> bytes:
    """What a response holds; less if the time is over. Raises ValueError if it is too large or
    incomplete."""
    parts, size = [], 0
    # read1 returns what has come; read would wait for a whole block.
    while time.monotonic() < end and (block := stream.read1(_BLOCK)):
        parts.append(block)
        size += len(block)
        if size > largest:
            raise ValueError(f"is larger than {largest >> 20} MiB")
    if stream.length:
        raise ValueError(f"{stream.length} bytes are missing")
    return b"".join(parts)


def _opener(connections: list[HTTPConnection]) -> request.OpenerDirector:
    """Opens http and https alone, also after a redirect. Connections are
    added to the list when they are made."""

    def connection(kind: type[HTTPConnection], host: str, **options: Any) -> HTTPConnection:
        connections.append(kind(host, **options))
        return connections[-1]

    class Http(request.HTTPHandler):
        def http_open(self, asked: request.Request) -> HTTPResponse:
            return self.do_open(partial(connection, HTTPConnection), asked)

    class Https(request.HTTPSHandler):
        def https_open(self, asked: request.Request) -> HTTPResponse:
            return self.do_open(partial(connection, HTTPSConnection), asked)

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.UnknownHandler, Http, Https, request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _hang_up(connections: list[HTTPConnection]) -> None:
    """Ends connections whose headers come too slowly; each part of them may be in time."""
    for connection in connections:
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _request(uri: str) -> request.Request:
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    asked = request.Request(urlunsplit(parts._replace(netloc=host, fragment="")))
    asked.add_header("User-Agent", f"posgan-edge/{__version__}")
    if at:
        # Not forwarded to another address.
        coded = base64.b64encode(unquote(user).encode()).decode()
        asked.add_unredirected_header("Authorization", f"Basic {coded}")
    return asked
