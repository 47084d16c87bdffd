"""A live page over HTTP: the camera's picture as MJPEG, what was found as server-sent events."""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2

from posgan_edge.errors import BadInput, UsageError
from posgan_edge.geometry.layout import CLOSED_REGIONS, REGIONS
from posgan_edge.live.sinks.base import Result, Sink
from posgan_edge.live.sinks.records import frame_record

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_BOUNDARY = "frame"
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


class LivePageSink(Sink):
    """Serves one page with picture, landmarks, pose and stage times.

    It listens on the loopback address by default. On any other address every request needs
    ``token``, which is made up if none is given. Requests from pages of other sites, and for other
    host names, are refused. A slow viewer misses frames and does not slow the run. Raises BadInput
    if the server cannot listen on the address.
    """

    def __init__(self, address: str, token: str | None = None, blendshapes: bool = False) -> None:
        self.expressions = blendshapes
        host, port = parse_address(address)
        self.local = is_loopback(host)
        if self.local and token is not None:
            raise UsageError(f"{address}: a token is for addresses that others can reach")
        self.token = None if self.local else token or secrets.token_urlsafe(24)
        self.name = "live page"
        self._changed = threading.Condition()
        self._number, self._jpeg, self._event = 0, b"", b""
        self._viewers, self._open = 0, True
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
        return self._viewers > 0

    def write(self, result: Result) -> None:
        record = frame_record(result.frame, result.faces, blendshapes=self.expressions)
        record["latency_ms"] = round(result.latency_ms, 2)
        record["stages_ms"] = {k: round(v, 2) for k, v in result.stages_ms.items()}
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        coded, jpeg = cv2.imencode(".jpg", result.frame.image, quality)
        if not coded:
            raise BadInput("live page: the frame cannot be coded as JPEG")
        with self._changed:
            self._jpeg, self._event = jpeg.tobytes(), json.dumps(record).encode()
            self._number += 1
            self._changed.notify_all()

    def next(self, seen: int) -> tuple[int, bytes, bytes] | None:
        """Waits for a (number, JPEG, event) newer than ``seen``. After some seconds without one,
        returns the last one again. None when the sink is closed."""
        with self._changed:
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
        with self._changed:
            self._viewers -= 1

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sink: LivePageSink

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a viewer may leave at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        refusal = self._refusal(parse_qs(url.query).get("token", [""])[0])
        if refusal is not None:
            self._answer(*refusal)
        elif url.path == "/":
            self._page()
        elif url.path in ("/stream.mjpg", "/events"):
            self._stream(url.path)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "nothing here")

    def _refusal(self, token: str) -> tuple[HTTPStatus, str] | None:
        sink, host = self.server.sink, self.headers.get("Host", "")
        if sink.hosts and host not in sink.hosts:
            return HTTPStatus.FORBIDDEN, "this page is served to this machine alone"
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        # Pictures are fetched without an Origin; browsers tell who asks in this header.
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return HTTPStatus.FORBIDDEN, "requests of other sites are refused"
        if sink.token is not None and not hmac.compare_digest(token.encode(), sink.token.encode()):
            return HTTPStatus.UNAUTHORIZED, "the token is missing or wrong"
        return None

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = resources.files("posgan_edge.assets").joinpath("live.html").read_text()
        regions = {name: list(indices) for name, indices in REGIONS.items()}
        page = page.replace("{{nonce}}", nonce).replace("{{regions}}", json.dumps(regions))
        page = page.replace("{{closed}}", json.dumps(CLOSED_REGIONS))
        self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8", _POLICY.format(nonce=nonce))

    def _answer(
        self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8",
        policy: str = "default-src 'none'",
    ) -> None:  # fmt: skip
        body = text.encode()
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

    def _stream(self, path: str) -> None:
        sink = self.server.sink
        if not sink.enter():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
            return
        try:
            pictures = path == "/stream.mjpg"
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
            self.send_response(HTTPStatus.OK)
            self._common_headers(kind if pictures else "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            number = 0
            while (newest := sink.next(number)) is not None:
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
            sink.leave()

    def version_string(self) -> str:
        return "posgan-edge"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged, because their addresses contain the token."""
