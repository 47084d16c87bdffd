"""The live page: who may see it, and what a real browser makes of it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from posgan_edge import Frame
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.live.sinks import Result, live_page
from posgan_edge.live.sinks.live_page import LivePageSink, is_loopback, parse_address
from tests.helpers.there import there


def get(url, path="/", headers=None, method="GET"):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "a:b", "1:70000"])
def test_bad_addresses(text):
    with pytest.raises(UsageError, match="give PORT or HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("192.168.1.2", False), ("example.com", False)],
)  # fmt: skip
def test_loopback(host, local):
    assert is_loopback(host) == local


def test_only_this_machine_and_this_origin_without_a_token():
    with LivePageSink("0") as sink:
        host = urlsplit(sink.url).netloc
        assert host.startswith("127.0.0.1:")
        assert sink.token is None
        for headers, status in (
            ({}, 200),
            ({"Host": f"localhost:{host.split(':')[1]}"}, 200),
            ({"Host": "evil.example"}, 403),
            ({"Host": "127.0.0.1:1"}, 403),
            ({"Origin": f"http://{host}"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
        ):
            for path in ("/", "/stream.mjpg", "/events"):
                if status == 403 or path == "/":
                    assert get(sink.url, path, headers)[0] == status, (path, headers)
        assert get(sink.url, "/../secret")[0] == 404
        assert get(sink.url, "/", method="POST")[0] == 501
        found = get(sink.url)[1]
        assert "default-src 'none'" in found["Content-Security-Policy"]
        assert found["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Python" not in found["Server"]


def test_beyond_loopback_a_token_is_needed():
    with LivePageSink("0.0.0.0:0") as sink:
        local = f"http://127.0.0.1:{urlsplit(sink.url).port}/"
        assert sink.token is not None
        assert len(sink.token) >= 32
        for path in ("/", "/stream.mjpg", "/events"):
            assert get(local, path)[0] == 401
            assert get(local, f"{path}?token=wrong")[0] == 401
        assert get(local, f"/?token={sink.token}")[0] == 200
        assert get(local, f"/?token={sink.token}", {"Origin": "http://evil.example"})[0] == 403
    with LivePageSink("0.0.0.0:0", "mine") as sink:
        assert sink.url.endswith("?token=mine")


def test_ipv6():
    try:
        sink = LivePageSink("[::1]:0")
    except BadInput as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    with sink:
        assert sink.url.startswith("http://[::1]:")
        assert get(sink.url)[0] == 200


def test_an_address_in_use_is_named():
    with LivePageSink("0") as sink:
        port = urlsplit(sink.url).port
        with pytest.raises(BadInput, match=f"{port}: cannot be served there"):
            LivePageSink(str(port))


def test_viewers_are_counted_and_slow_ones_miss_frames():
    def result(number):
        return Result(Frame(np.full((64, 64, 3), number, np.uint8), number), [])

    with LivePageSink("0") as sink:
        assert not sink.wants()
        _, headers, answer = get(sink.url, "/events")
        assert headers["Content-Type"] == "text/event-stream"
        end = time.monotonic() + 5
        while not sink.wants() and time.monotonic() < end:
            time.sleep(0.01)
        for number in range(200):
            sink.write(result(number))
        seen: list[Any] = []
        while not seen or seen[-1] != 199:
            line = answer.readline()
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:])["frame"])
        assert seen == sorted(set(seen))
        streams = [get(sink.url, "/events") for _ in range(8)]
        assert [s[0] for s in streams] == [200] * 7 + [503]
        pictures = streams.pop(0)
        pictures[2].close()
    assert not sink._thread.is_alive()


def test_pictures_are_jpegs():
    with LivePageSink("0") as sink:
        _, headers, answer = get(sink.url, "/stream.mjpg")
        assert headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        sink.write(Result(Frame(np.zeros((48, 64, 3), np.uint8)), []))
        lines = [answer.readline().strip() for _ in range(4)]
        assert lines[:2] == [b"--frame", b"Content-Type: image/jpeg"]
        size = int(lines[2].split(b":")[1])
        assert answer.read(size)[:2] == b"\xff\xd8"


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_a_hundred_clients_neither_slow_the_run_nor_stay(monkeypatch):
    """Forty that read events, thirty that take no picture, thirty that say nothing."""
    monkeypatch.setattr(live_page._Handler, "timeout", 1.0)
    result = Result(Frame(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)), [])
    threads, before = threading.active_count(), descriptors()
    with LivePageSink("0") as sink:
        (channel,) = sink.channels
        alone = []
        for _ in range(20):
            start = time.thread_time()
            sink.write(result)
            alone.append(time.thread_time() - start)
        host, port = "127.0.0.1", urlsplit(sink.url).port
        clients = []
        for number in range(100):
            client = socket.create_connection((host, port), 5)
            path = "/events" if number % 10 < 4 else "/stream.mjpg" if number % 10 < 7 else ""
            if path:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            clients.append(client)
        assert until(lambda: channel._viewers == 8)
        assert threading.active_count() - threads <= 66
        crowd, waits = [], []
        for _ in range(100):
            start, now = time.thread_time(), time.monotonic()
            sink.write(result)
            crowd.append(time.thread_time() - start)
            waits.append(time.monotonic() - now)
            time.sleep(0.03)
        # The work of a frame does not depend on the viewers, and nobody is waited for.
        assert np.median(crowd) < 2 * np.median(alone) + 0.002
        assert np.median(waits) < 0.5

        # Who takes no picture is dropped, and makes room for others.
        def viewers():
            sink.write(result)
            return channel._viewers

        assert until(lambda: viewers() < 8)
        for client in clients:
            client.close()
        assert until(lambda: viewers() == 0)
        assert get(sink.url)[0] == 200
        silent = [socket.create_connection((host, port), 5) for _ in range(10)]
    assert until(lambda: threading.active_count() <= threads)
    for client in silent:
        client.close()
    assert until(lambda: descriptors() <= before)


@pytest.fixture
def served(tmp_path):
    """``posgan-edge run`` on a moving portrait, paced; its page's address."""
    pytest.importorskip("mediapipe")
    process = subprocess.Popen(
        [sys.executable, "-m", "posgan_edge", "run",
         "synthetic:?seconds=120&period=2&blink=1.2", "--blendshapes", "--drop-frames",
         "--serve", "0", "--no-window", "--json", str(tmp_path / "a.jsonl")],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    stderr = there(process.stderr)
    try:
        for line in stderr:
            if found := re.search(r"live page: (\S+)", line):
                yield found[1], process, tmp_path
                break
    finally:
        process.kill()
        process.wait()
        stderr.close()


OVERLAY = """(() => {
  const c = document.getElementById("canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height);
  let sum = 0, count = 0;
  for (let i = 3; i < d.data.length; i += 4) if (d.data[i]) { sum += (i >> 2) % c.width; count += 1; }
  return count ? [sum / count, count] : null;
})()"""  # noqa: E501


#: name -> [the number shown, the bar's width in percent]
SHAPES = """Object.fromEntries([...document.querySelectorAll("#shapes > div")].map(row =>
  [row.children[0].textContent, [+row.children[1].textContent, parseFloat(row.children[2].style.width)]]))"""  # noqa: E501


def test_blendshapes_only_where_they_are_wanted():
    for wanted in (False, True):
        with LivePageSink("0", blendshapes=wanted) as sink:
            assert sink.expressions == wanted


def test_a_browser_shows_what_moves(served, browser):
    url, process, folder = served
    browser.open(url)
    browser.until("document.getElementById('state')?.dataset.live === 'yes'", 60)
    first = int(browser.ask("document.getElementById('state').dataset.frame"))
    browser.until(f"+document.getElementById('state').dataset.frame > {first + 5}")
    browser.until("document.getElementById('picture').naturalWidth === 1280")
    centers = []
    for _ in range(12):
        centers.append(browser.until(OVERLAY)[0])
        time.sleep(0.12)
    assert max(centers) - min(centers) > 60
    texts = set()
    for _ in range(12):
        texts.add(browser.ask("document.getElementById('faces').innerText"))
        time.sleep(0.1)
    assert len(texts) > 2
    assert "pitch / yaw / roll" in texts.pop()
    stages = browser.ask("document.getElementById('stages').innerText")
    assert "network" in stages
    assert "capture to result" in stages
    shown = browser.ask(SHAPES)
    assert len(shown) == 43
    assert "jawOpen" in shown
    blinks = [browser.ask(SHAPES)["eyeBlinkLeft"] for _ in range(40) if not time.sleep(0.05)]  # type: ignore[func-returns-value]
    assert max(width for _, width in blinks) > min(width for _, width in blinks) + 3
    picture = browser.picture()
    if wanted := os.environ.get("POSGAN_KEEP_PICTURES"):
        with open(os.path.join(wanted, "live.png"), "wb") as stream:
            stream.write(picture)
    browser.ask("document.getElementById('overlay').click()")
    browser.until(f"!({OVERLAY})")
    assert browser.errors == []
    assert {urlsplit(r).netloc for r in browser.requests} == {urlsplit(url).netloc}
    # The page says so when the stream ends.
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    browser.until("document.getElementById('state').dataset.live === 'no'")
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    assert lines[-1]["frame"] > first
    assert len(lines[-1]["faces"][0]["blendshapes"]) == 52


def test_another_sites_page_gets_nothing(served, browser):
    url, _, _ = served

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title>")

        def log_message(self, *_):
            pass

    other = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        browser.open(f"http://127.0.0.1:{other.server_address[1]}/")
        browser.until("document.title === 'other'")
        load = """new Promise(done => {
          const image = new Image();
          image.onload = () => done("loaded"); image.onerror = () => done("refused");
          image.src = "%sstream.mjpg";
        })"""
        assert browser.ask(load % url) == "refused"
        fetched = f"fetch('{url}events').then(r => 'status ' + r.status, () => 'refused')"
        assert browser.ask(fetched) == "refused"
    finally:
        other.shutdown()
        other.server_close()
