"""A live page over HTTP: the camera's picture as MJPEG, what was found as server-sent events."""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.geometry.layout import CLOSED_REGIONS, REGIONS
from posgan_edge.live.sinks.base import Result, Sink
from posgan_edge.live.sinks.bounded_server import BoundedServer
from posgan_edge.live.sinks.records import frame_record

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_BOUNDARY = "frame"
#: What is served of each camera, besides its page.
_FILES = ("stream.mjpg", "events", "frame.jpg")
_MOST_VIEWERS = 8
_JPEG_QUALITY = 80
#: Seconds without a frame after which a viewer is sent something, to see whether it is there.
_KEEP_ALIVE = 5.0
_POLICY = "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # noqa: E501


def parse_address(text: str) -> tuple[str, int]:
    """``PORT`` or ``HOST:PORT`` -> (host, port); loopback where no host is named."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text}: give PORT or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Channel:
    """The newest picture of one camera, and those who look at it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number, self._jpeg, self._event = 0, b"", b""
        self._viewers, self._open = 0, True

    @property
    def viewed(self) -> bool:
        """Whether somebody looks."""
        return self._viewers > 0

    def publish(self, jpeg: bytes, event: bytes) -> None:
        """Hands a picture and its event to everybody who looks."""
        with self._changed:
            self._jpeg, self._event = jpeg, event
            self._number += 1
            self._changed.notify_all()

    def next(self, seen: int | None) -> tuple[int, bytes, bytes] | None:
        """Waits for a (number, JPEG, event) newer than ``seen``, or than now for None. After some
        seconds without one, returns the last one again. None when the sink is closed."""
        with self._changed:
            seen = self._number if seen is None else seen
            self._changed.wait_for(lambda: self._number > seen or not self._open, _KEEP_ALIVE)
            return (self._number, self._jpeg, self._event) if self._open else None

    def enter(self) -> bool:
        """Counts a new viewer; False if there are too many."""
        with self._changed:
            if self._viewers >= _MOST_VIEWERS:
                return False
            self._viewers += 1
            return True

    def leave(self) -> None:
        """Counts a viewer less."""
        with self._changed:
            self._viewers -= 1

    def close(self) -> None:
        """Lets everybody who waits go."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class LivePageSink(Sink):
    """Serves one page with picture, landmarks, pose and stage times.

    With the names of several ``cameras``, a page of all of them, and one for each: ``/1/``,
    ``/2/`` and so on, by ``Result.camera``. It listens on the loopback address by default. On any
    other address every request needs ``token``, which is made up if none is given. Requests from
    pages of other sites, and for other host names, are refused. A slow viewer misses frames and
    does not slow the run; one that takes nothing for 20 s is dropped. At most 8 streams of each
    camera are sent at one time. Raises BadInput if the server cannot listen on the address.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        blendshapes: bool = False,
        cameras: Sequence[str] = (),
    ) -> None:
        self.expressions = blendshapes
        host, port = parse_address(address)
        self.local = is_loopback(host)
        if self.local and token is not None:
            raise UsageError(f"{address}: a token is for addresses that others can reach")
        self.token = None if self.local else token or secrets.token_urlsafe(24)
        self.name = "live page"
        self.cameras = list(cameras)
        self.channels = [Channel() for _ in range(max(1, len(cameras)))]
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise BadInput(f"{address}: cannot be served there ({error.strerror})") from error
        self._server.sink = self
        bound = self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{bound}/" + (f"?token={self.token}" if self.token else "")
        self.hosts = {f"{name}:{bound}" for name in _LOOPBACK_NAMES} if self.local else set()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="live page", daemon=True
        )
        self._thread.start()

    def wants(self) -> bool:
        return any(channel.viewed for channel in self.channels)

    def write(self, result: Result) -> None:
        channel = self.channels[max(result.camera, 1) - 1]
        if not channel.viewed:
            return
        record = frame_record(result.frame, result.faces, blendshapes=self.expressions)
        record["latency_ms"] = round(result.latency_ms, 2)
        record["stages_ms"] = {k: round(v, 2) for k, v in result.stages_ms.items()}
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        coded, jpeg = cv2.imencode(".jpg", result.frame.image, quality)
        if not coded:
            raise BadInput("live page: the frame cannot be coded as JPEG")
        channel.publish(jpeg.tobytes(), json.dumps(record).encode())

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(BoundedServer):
    sink: LivePageSink


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        refusal = self._refusal(parse_qs(url.query).get("token", [""])[0])
        if refusal is not None:
            self._respond(*refusal)
        elif url.path == "/" and self.server.sink.cameras:
            self._page("cameras.html", {"cameras": self.server.sink.cameras})
        elif (found := self._channel(url.path)) is None:
            self._respond(HTTPStatus.NOT_FOUND, "nothing here")
        elif found[1] == "":
            regions = {name: list(indices) for name, indices in REGIONS.items()}
            self._page("live.html", {"regions": regions, "closed": CLOSED_REGIONS})
        else:
            self._stream(*found)

    def _channel(self, path: str) -> tuple[Channel, str] | None:
        """The channel of a path, and what is asked of it: the page (""), or a file in _FILES. None
        if there is nothing at that path."""
        sink, (folder, _, name) = self.server.sink, path[1:].rpartition("/")
        if name not in ("", *_FILES):
            return None
        if not sink.cameras:
            return None if folder else (sink.channels[0], name)
        known = [str(number) for number in range(1, len(sink.channels) + 1)]
        return (sink.channels[known.index(folder)], name) if folder in known else None

    def _refusal(self, token: str) -> tuple[HTTPStatus, str] | None:
        sink, host = self.server.sink, self.headers.get("Host", "")
        if sink.hosts and host not in sink.hosts:
            return HTTPStatus.FORBIDDEN, "this page is served to this machine alone"
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        # Pictures are fetched without an Origin; browsers name the requesting site in this header.
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        if sink.token is not None and not hmac.compare_digest(token.encode(), sink.token.encode()):
            return HTTPStatus.UNAUTHORIZED, "the token is missing or wrong"
        return None

    def _page(self, name: str, values: dict[str, Any]) -> None:
        """A page with values as JSON in the places of their names."""
        nonce = secrets.token_urlsafe(16)
        page = resources.files("posgan_edge.assets").joinpath(name).read_text()
        page = page.replace("{{nonce}}", nonce)
        for key, value in values.items():
            # A name in it must not end the script.
            page = page.replace(f"{{{{{key}}}}}", json.dumps(value).replace("<", "\\u003c"))
        self._respond(HTTPStatus.OK, page, "text/html; charset=utf-8", _POLICY.format(nonce=nonce))

    def _respond(
        self, status: HTTPStatus, content: str | bytes, kind: str = "text/plain; charset=utf-8",
        policy: str = "default-src 'none'",
    ) -> None:  # fmt: skip
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self._common_headers(kind, policy)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _common_headers(self, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")

    def _stream(self, channel: Channel, name: str) -> None:
        if not channel.enter():
            self._respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
            return
        try:
            if name == "frame.jpg":
                self._picture(channel.next(None))
                return
            pictures = name == "stream.mjpg"
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
            self.send_response(HTTPStatus.OK)
            self._common_headers(kind if pictures else "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            number = 0
            while (newest := channel.next(number)) is not None:
                known, (number, jpeg, event) = number, newest
                if not number:
                    continue
                if pictures:
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: "
                    self.wfile.write(f"{head}{len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n")
                elif number == known:
                    self.wfile.write(b":\n\n")
                else:
                    self.wfile.write(b"data: " + event + b"\n\n")
        except OSError:
            self.close_connection = True
        finally:
            channel.leave()

    def _picture(self, newest: tuple[int, bytes, bytes] | None) -> None:
        if newest is None or not newest[0]:
            self._respond(HTTPStatus.SERVICE_UNAVAILABLE, "no frame yet")
        else:
            self._respond(HTTPStatus.OK, newest[1], "image/jpeg")

    def version_string(self) -> str:
        return "posgan-edge"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged, because their addresses contain the token."""
