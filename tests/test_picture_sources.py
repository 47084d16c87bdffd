"""Pictures from zip archives and from web addresses."""

from __future__ import annotations

import http.server
import os
import socket
import struct
import threading
import time
import zipfile

import cv2
import numpy as np
import pytest

from posgan_edge.errors import BadInput
from posgan_edge.live.sources import is_picture, pictures_of
from posgan_edge.live.sources import pictures as pictures_module
from posgan_edge.live.sources.pictures import PictureReader, PicturesSource, expanded, targets
from posgan_edge.live.sources.web import fetch
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines

BOX = ",".join(map(str, PORTRAIT_BOX))
JPEG = PORTRAIT.read_bytes()


def write_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def raw_name(path, old, new):
    """Writes other bytes in place of a name in an archive."""
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))


def read_all(pictures):
    told: list[str] = []
    with PicturesSource(pictures, told.append) as source:
        return [(frame.index, frame.name) for frame in source], told


def test_pictures_of_an_archive(tmp_path):
    path = write_zip(tmp_path / "a.zip", [
        ("deep/", b""), ("b.jpg", JPEG), ("deep/a.JPG", JPEG), ("note.txt", b"no picture"),
        ("__MACOSX/._b.jpg", b"\0"), ("deep/inner.zip", b"PK"), ("a.gif", b"GIF89a"),
    ])  # fmt: skip
    assert is_picture(str(path))
    assert pictures_of(str(path)) == [f"{path}/a.gif", f"{path}/b.jpg", f"{path}/deep/a.JPG"]
    found = expanded(str(path))
    assert read_all(found) == (
        [(1, f"{path}/b.jpg"), (2, f"{path}/deep/a.JPG")],
        [f"{path}/a.gif: is not a picture that can be decoded"],
    )
    assert [str(name) for name in targets(found, tmp_path / "out", ".obj")] == [
        f"{tmp_path}/out/{name}.obj" for name in ("a", "b", "deep/a")
    ]
    with PictureReader() as reader:
        np.testing.assert_array_equal(reader.read(found[1]), cv2.imread(str(PORTRAIT)))


def test_a_pattern_of_archives(tmp_path):
    for name in ("a", "b"):
        write_zip(tmp_path / f"{name}.zip", [("x/p.jpg", JPEG)])
    pattern = str(tmp_path / "*.zip")
    assert is_picture(pattern)
    assert pictures_of(pattern) == [f"{tmp_path}/{name}.zip/x/p.jpg" for name in ("a", "b")]
    assert targets(expanded(pattern), tmp_path, None) == [
        tmp_path / f"{name}.zip" / "x" / "p.jpg" for name in ("a", "b")
    ]
    with pytest.raises(BadInput, match="matches no pictures"):
        expanded(str(tmp_path / "c*.zip"))


def test_names_of_an_archive_lead_nowhere_else(tmp_path):
    names = ["../../up.jpg", "/root.jpg", "C:\\a\\b.jpg", "a/../../../c.jpg", "..\\d.jpg"]
    path = write_zip(tmp_path / "a.zip", [(name, JPEG) for name in names])
    files = targets(expanded(str(path)), tmp_path / "out", None)
    assert sorted(str(file.relative_to(tmp_path / "out")) for file in files) == [
        "C_/a/b.jpg", "a/c.jpg", "d.jpg", "root.jpg", "up.jpg",
    ]  # fmt: skip
    assert len(read_all(expanded(str(path)))[0]) == 5


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("ä€.jpg".encode(), "ä€.jpg"),  # UTF-8 without the flag, as Info-ZIP may write it
        (b"\x84b\xe1.jpg", "äbß.jpg"),  # code page 437
        (b"\xff\xfe.jpg", "\xa0■.jpg"),
    ],
)
def test_names_that_are_not_marked_as_utf8(tmp_path, raw, name):
    stand = b"x" * (len(raw) - 4) + b".jpg"
    path = write_zip(tmp_path / "a.zip", [(stand.decode(), JPEG)])
    raw_name(path, stand, raw)
    assert pictures_of(str(path)) == [f"{path}/{name}"]
    assert read_all(expanded(str(path))) == ([(0, f"{path}/{name}")], [])


def test_an_archive_is_no_bomb(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", [("a.jpg", bytes(50 << 20)), ("b.jpg", JPEG)])
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(pictures_module, "LARGEST_FILE", 1 << 20)
    found, told = read_all(expanded(str(path)))
    assert found == [(1, f"{path}/b.jpg")]
    assert told == [f"{path}/a.jpg: is larger than 1 MiB"]
    # The size that the archive states is not believed.
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 50 << 20), struct.pack("<L", 100)))
    found, told = read_all(expanded(str(path)))
    assert found == [(1, f"{path}/b.jpg")]
    assert len(told) == 1
    assert told[0].startswith(f"{path}/a.jpg: ")


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def spoil(path):
    data = bytearray(path.read_bytes())
    data[1000:1100] = bytes(100)
    path.write_bytes(data)


def encrypt(path):
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[: at + 8] + b"\x01" + data[at + 9 :])


def unknown_method(path):
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[: at + 10] + b"\x63" + data[at + 11 :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "not a zip archive that can be read"),
        (lambda path: path.write_text("hello"), "not a zip archive that can be read"),
        (lambda path: path.unlink(), "not a zip archive that can be read: No such file"),
        (spoil, "a.jpg: cannot be read: "),
        (encrypt, "a.jpg: cannot be read: .*encrypted"),
        (unknown_method, "a.jpg: cannot be read: .*not supported"),
        (lambda path: write_zip(path, [("note.txt", b"")]), "no pictures in this archive"),
    ],
)
def test_archives_that_cannot_be_read(tmp_path, run, change, message):
    path = write_zip(tmp_path / "a.zip", [("a.jpg", JPEG)])
    change(path)
    code, out, err = run("run", path, "--box", BOX)
    assert (code, out) == (4, "")
    assert err.count("\n") == 2
    with pytest.raises(BadInput, match=message):
        raise BadInput(err.splitlines()[0])


def test_a_run_over_an_archive(run, tmp_path):
    path = write_zip(tmp_path / "a.zip", [("x/a.jpg", JPEG), ("x/b.jpg", JPEG)])
    code, _, err = run(
        "run", path, "--box", BOX, "--json", tmp_path / "a.jsonl", "--mask", tmp_path / "masks",
        "--processes", 2,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert [line["source"] for line in read_lines(tmp_path / "a.jsonl")] == [
        f"{path}/x/a.jpg", f"{path}/x/b.jpg",
    ]  # fmt: skip
    assert sorted(os.listdir(tmp_path / "masks" / "x")) == ["a.png", "b.png"]
    code, _, err = run("run", path, "--box", BOX, "--json", path, "--overwrite")
    assert (code, err) == (2, f"error: {path}: is a source or another output: give another name\n")


class _Server(http.server.ThreadingHTTPServer):
    """``asked`` has the path and headers of each request; ``end`` is set at the end."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.end = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Nothing is printed."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        name = self.path.partition("?")[0].strip("/").rpartition("/")[2]
        getattr(self, f"send_{name.partition('.')[0]}", self.send_portrait)()

    def sends(self, data, length=None, status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def send_portrait(self):
        self.sends(JPEG)

    def send_missing(self):
        self.sends(b"", status=404)

    def send_page(self):
        self.sends(b"<html>no picture</html>")

    def send_moved(self):
        self.sends(b"", status=302, Location="/portrait.jpg")

    def send_round(self):
        self.sends(b"", status=302, Location="/round.jpg")

    def send_file(self):
        self.sends(b"", status=302, Location=f"file://{PORTRAIT}")

    def send_other(self):
        self.sends(b"", status=302, Location=f"http://localhost:{self.server.server_port}/b.jpg")

    def send_short(self):
        self.sends(JPEG[:1000], length=len(JPEG))

    def send_large(self):
        self.sends(bytes(3 << 20))

    def send_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def send_trickle(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b".")
            time.sleep(0.1)

    def send_headers(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for number in range(90):
            self.wfile.write(f"X-{number}: 1\r\n".encode())
            time.sleep(0.1)

    def send_silent(self):
        self.server.end.wait(10)

    def send_rude(self):
        self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = _Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.end.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("uri", "pictured"),
    [
        ("http://host/a.jpg", True),
        ("HTTPS://host/deep/a.PNG#top", True),
        ("http://host/a.jpg?user=x", False),
        ("http://host/stream", False),
        ("http://host.jpg", False),
        ("http://host.jpg/", False),
        ("ftp://host/a.jpg", False),
    ],
)
def test_addresses_that_are_pictures_by_their_name(uri, pictured):
    assert is_picture(uri) == pictured


def test_pictures_from_the_web(run, web, tmp_path):
    (tmp_path / "list.txt").write_text(f"{web.address}/deep/b.jpg\n{web.address}/photo?id=7\n")
    secret = web.address.replace("//", "//me:s%40cret@")
    code, out, err = run(
        "run", f"{secret}/a.jpg", f"@{tmp_path / 'list.txt'}",
        "--image", f"{web.address}/c.jpg?w=1", "--box", BOX,
        "--json", tmp_path / "a.jsonl", "--save", tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.count(": 1 face, ") == 4
    shown = web.address.replace("//", "//***@")
    assert [line["source"] for line in read_lines(tmp_path / "a.jsonl")] == [
        f"{web.address}/c.jpg?w=1", f"{shown}/a.jpg", f"{web.address}/deep/b.jpg",
        f"{web.address}/photo?id=7",
    ]  # fmt: skip
    assert sorted(os.listdir(tmp_path / "out")) == ["a.jpg", "b.jpg", "c.jpg", "photo.png"]
    headers = {path: headers.get("Authorization") for path, headers in web.asked}
    assert headers == {
        "/a.jpg": "Basic bWU6c0BjcmV0", "/deep/b.jpg": None, "/photo?id=7": None,
        "/c.jpg?w=1": None,
    }  # fmt: skip


def test_pictures_of_one_name_on_the_web_are_kept_apart(tmp_path):
    pictures = [p for uri in ("http://h/x/a.jpg", "http://h/y/a.jpg") for p in expanded(uri)]
    assert targets(pictures, tmp_path, ".obj") == [tmp_path / "x/a.obj", tmp_path / "y/a.obj"]
    pictures = [p for uri in ("http://h/..%2f/..", "http://h/") for p in expanded(uri)]
    assert {path.parent for path in targets(pictures, tmp_path, None)} == {tmp_path}


def test_answers_that_lead_to_another_address(web):
    assert fetch(f"{web.address}/moved.jpg") == JPEG
    secret = web.address.replace("//", "//me:secret@")
    web.asked.clear()
    assert fetch(f"{secret}/other.jpg") == JPEG
    assert [(path, "Authorization" in headers) for path, headers in web.asked] == [
        ("/other.jpg", True), ("/b.jpg", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jpg", "cannot be fetched: status 404 Not Found"),
        ("round.jpg", "cannot be fetched: status 302 "),
        ("file.jpg", "cannot be fetched: status 302 "),
        ("short.jpg", "cannot be fetched: "),
        ("large.jpg", "cannot be fetched: is larger than 1 MiB"),
        ("endless.jpg", "cannot be fetched: is larger than 1 MiB"),
        ("trickle.jpg", "cannot be fetched: it takes longer than 1 s"),
        ("headers.jpg", "cannot be fetched: it takes longer than 1 s"),
        ("silent.jpg", "cannot be fetched: it takes longer than 1 s"),
        ("rude.jpg", "cannot be fetched: "),
    ],
)
def test_what_cannot_be_fetched(web, name, message):
    start = time.monotonic()
    with pytest.raises(BadInput) as caught:
        fetch(f"{web.address.replace('//', '//me:secret@')}/{name}", 1 << 20, 1.0)
    assert time.monotonic() - start < 5
    shown = web.address.replace("//", "//***@")
    assert str(caught.value).startswith(f"{shown}/{name}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/a.jpg", "http://[bad/a.jpg", "http:///a.jpg",
                                 "http://127.0.0.1:99999999/a.jpg", "http://a b/c.jpg",
                                 "http://me:secret@/a.jpg"])  # fmt: skip
def test_addresses_where_nothing_is(run, uri):
    code, out, err = run("run", uri, "--box", BOX)
    assert (code, out) == (4, "")
    assert err.count("\n") == 2
    assert ": cannot be fetched: " in err.splitlines()[0]
    assert "secret" not in err


def test_a_page_is_no_picture(run, web):
    code, _, err = run("run", f"{web.address}/page.jpg", f"{web.address}/a.jpg", "--box", BOX)
    assert code == 4
    assert err == (
        f"error: {web.address}/page.jpg: is not a picture that can be decoded\n"
        "error: 1 of 2 pictures failed\n"
    )
