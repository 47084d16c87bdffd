"""The OSC sink against a receiver of the VMC protocol on a real socket."""

import math
import socket
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posgan_edge import ARKIT_NAMES, FaceBox, FacePipeline, Frame
from posgan_edge.errors import UsageError
from posgan_edge.geometry.axes import quaternion
from posgan_edge.geometry.pose import rotation_from_angles
from posgan_edge.images import read_image
from posgan_edge.live.sinks import Result
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX

pytest.importorskip("pythonosc")
from pythonosc.osc_bundle import OscBundle

from posgan_edge.live.sinks.osc import OscSink, parse_osc, unity_quaternion


class Receiver:
    """A UDP socket and what came in: one list of (address, values) for each datagram."""

    def __init__(self, family=socket.AF_INET, host="127.0.0.1"):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]

    def datagrams(self, count=None):
        found: list[Any] = []
        while count is None or len(found) < count:
            try:
                data = self.socket.recv(65536)
            except OSError:
                break
            assert len(data) <= 1400
            found.append([(m.address, m.params) for m in OscBundle(data)])
            self.socket.settimeout(0.3)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.fixture(scope="module")
def face():
    with FacePipeline("edge") as pipeline:
        return pipeline.process(read_image(PORTRAIT), [FaceBox(*PORTRAIT_BOX)])[0]


def result(*faces, seconds=1.5):
    return Result(Frame(np.zeros((512, 512, 3), np.uint8), 45, seconds), faces)


def test_a_frame_as_a_receiver_gets_it(face):
    with Receiver() as receiver, OscSink(f"osc://127.0.0.1:{receiver.port}") as sink:
        sink.write(result(face))
        messages = [message for datagram in receiver.datagrams() for message in datagram]
        assert (sink.sent, sink.lost) == (1, 0)
    assert messages[0] == ("/VMC/Ext/OK", [1])
    assert messages[1] == ("/VMC/Ext/T", [1.5])
    assert messages[2][0] == "/VMC/Ext/Bone/Pos"
    bone, *numbers = messages[2][1]
    assert bone == "Head"
    assert numbers[:3] == [0, 0, 0]
    assert numbers[3:] == pytest.approx(unity_quaternion(face.pose.rotation), abs=1e-6)
    values = [message for message in messages if message[0] == "/VMC/Ext/Blend/Val"]
    assert dict(m[1] for m in values) == pytest.approx(dict(face.blendshapes), abs=1e-6)
    assert tuple(m[1][0] for m in values) == ARKIT_NAMES
    assert messages[-1] == ("/VMC/Ext/Blend/Apply", [])
    assert len(messages) == 3 + 52 + 1


def test_a_frame_without_a_face_says_only_that_all_is_well():
    with Receiver() as receiver, OscSink(f"localhost:{receiver.port}") as sink:
        sink.write(result())
        assert receiver.datagrams() == [[("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [1.5])]]


def test_ipv6(face):
    try:
        receiver = Receiver(socket.AF_INET6, "::1")
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    with receiver, OscSink(f"osc://[::1]:{receiver.port}") as sink:
        sink.write(result(face))
        assert receiver.datagrams(1)


@pytest.mark.parametrize(
    ("angles", "axis", "degrees"),
    [
        # Pitch is about the axis through the ears, which Unity has the other way round.
        ((0, 0, 0), (0, 0, 0), 0),
        ((20, 0, 0), (1, 0, 0), 20),
        ((0, 30, 0), (0, -1, 0), 30),
        ((0, 0, 40), (0, 0, -1), 40),
        ((0, 180, 0), (0, -1, 0), 180),
    ],
)
def test_the_head_in_unitys_axes(angles, axis, degrees):
    rotation = rotation_from_angles(*angles)
    # The same turn, of the axes (person's right, up, forward): x is turned round before and after.
    flip = np.diag([-1.0, 1.0, 1.0])
    found = unity_quaternion(rotation)
    np.testing.assert_allclose(matrix(found), flip @ rotation @ flip, atol=1e-9)
    own = np.array(rotation_axis(rotation)) * (1, -1, -1)
    assert abs(found[3]) == pytest.approx(math.cos(math.radians(degrees) / 2), abs=1e-9)
    expected = own * math.sin(math.radians(degrees) / 2)
    assert np.abs(np.cross(found[:3], expected)).max() < 1e-6
    assert np.abs(np.cross(found[:3], axis)).max() < 1e-6


def rotation_axis(r):
    return (r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1])


def matrix(q):
    x, y, z, w = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def test_quaternions_of_any_rotation():
    rng = np.random.default_rng(0)
    for angles in rng.uniform(-180, 180, (200, 3)):
        rotation = rotation_from_angles(*angles)
        found = quaternion(rotation)
        assert found[3] >= 0
        assert np.linalg.norm(found) == pytest.approx(1)
        np.testing.assert_allclose(matrix(found), rotation, atol=1e-9)


def test_nobody_listens_is_one_line_and_a_count(face):
    with Receiver() as receiver:
        port = receiver.port
    lines: list[str] = []
    with OscSink(f"127.0.0.1:{port}", lines.append) as sink:
        for number in range(20):
            sink.write(result(face, seconds=number / 30))
        assert 10 <= sink.lost <= sink.sent == 20
        lost = sink.lost
    sink.close()
    assert lines == [
        f"osc://127.0.0.1:{port}: cannot be reached (Connection refused); the run continues",
        f"osc://127.0.0.1:{port}: {lost} of 20 frames were lost",
    ]


def test_a_program_that_comes_later_gets_what_follows(face):
    with Receiver() as early:
        port = early.port
    lines: list[str] = []
    with OscSink(f"127.0.0.1:{port}", lines.append) as sink:
        for _ in range(5):
            sink.write(result(face))
        with Receiver.__new__(Receiver) as late:
            late.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            late.socket.bind(("127.0.0.1", port))
            late.socket.settimeout(5)
            for number in range(5):
                sink.write(result(face, seconds=10.0 + number))
            times = [m[1][0] for d in late.datagrams() for m in d if m[0] == "/VMC/Ext/T"]
        assert times[-4:] == [11.0, 12.0, 13.0, 14.0]
    assert len(lines) == 2


def test_a_name_that_is_unknown_is_one_line_and_a_count(face):
    lines: list[str] = []
    with OscSink("no-such-machine.invalid:39539", lines.append) as sink:
        for _ in range(3):
            sink.write(result(face))
    assert len(lines) == 2
    assert "osc://no-such-machine.invalid:39539: cannot be reached (" in lines[0]
    assert lines[1].endswith("3 of 3 frames were lost")


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:39539", ("127.0.0.1", 39539)), ("osc://studio:1", ("studio", 1)),
     ("osc://[::1]:39539", ("::1", 39539))],
)  # fmt: skip
def test_addresses(text, address):
    assert parse_osc(text) == address


@pytest.mark.parametrize(
    "text", ["", "studio", ":39539", "studio:", "studio:port", "studio:70000", "studio:0",
             "http://studio:1"]
)  # fmt: skip
def test_bad_addresses(text):
    with pytest.raises(UsageError, match=r"give HOST:PORT|port 0"):
        parse_osc(text)


def test_a_face_without_blendshapes_sends_none(face):
    bare = replace(face, position_map=replace(face.dense_map, xyz=face.dense_map.xyz * np.nan))
    with Receiver() as receiver, OscSink(f"127.0.0.1:{receiver.port}") as sink:
        sink.write(result(bare))
        assert len(receiver.datagrams()[0]) == 2


def test_a_run_sends(run, tmp_path):
    with Receiver() as receiver:
        code, _, err = run(
            "run", "synthetic:?seconds=1", "--box", "570,290,190,180", "--no-window",
            "--osc", f"127.0.0.1:{receiver.port}",
        )  # fmt: skip
        assert code == 0, err
        messages = [message for datagram in receiver.datagrams() for message in datagram]
    assert sum(m == ("/VMC/Ext/Blend/Apply", []) for m in messages) == 30


def test_a_run_goes_on_where_nobody_listens(run, tmp_path):
    with Receiver() as receiver:
        port = receiver.port
    code, _, err = run(
        "run", "synthetic:?seconds=1", "--box", "570,290,190,180", "--no-window",
        "--osc", f"127.0.0.1:{port}", "--json", tmp_path / "a.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert err.count("cannot be reached (Connection refused); the run continues") == 1
    assert " of 30 frames were lost" in err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 30


def test_an_address_that_is_none_is_refused(run):
    code, _, err = run("run", PORTRAIT, "--no-window", "--osc", "studio")
    assert code == 2
    assert "studio: give HOST:PORT" in err
