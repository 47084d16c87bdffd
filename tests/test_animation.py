"""A video as one animated GLB: read back, played by hand, and checked by Khronos' validator."""

import json
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from posgan_edge import ARKIT_NAMES, FaceBox, FaceTracker, face_mesh
from posgan_edge.errors import BadInput, UsageError
from posgan_edge.faces.detector import GivenBoxes
from posgan_edge.faces.expression_basis import load_basis
from posgan_edge.geometry.layout import load_layout
from posgan_edge.geometry.mesh import grid_triangles
from posgan_edge.live.sinks import Outputs, Result
from posgan_edge.live.sinks.animation import AnimationSink
from posgan_edge.live.sources import open_source
from posgan_edge.render.animation import FaceAnimation, save_animation
from tests.helpers.data import read_lines, write_constant_model

pygltflib = pytest.importorskip("pygltflib")

SOURCE = "synthetic:?width=640&height=640&seconds=1.5&blink=1.5&blink_takes=0.4"
BOX = "244,214,166,154"
VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report)));
"""


def read(path):
    """(document, a function that gives an accessor's values)."""
    document = pygltflib.GLTF2().load(str(path))
    blob = document.binary_blob()
    kinds = {5123: np.uint16, 5125: np.uint32, 5126: np.float32}
    columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}

    def part(view, kind, width, count):
        start = document.bufferViews[view].byteOffset
        return np.frombuffer(blob, kind, count * width, start).reshape(count, width)

    def values(number):
        a = document.accessors[number]
        width, kind = columns[a.type], kinds[a.componentType]
        if a.sparse is None:
            return part(a.bufferView, kind, width, a.count)
        found = np.zeros((a.count, width), kind)
        s = a.sparse
        places = part(s.indices.bufferView, kinds[s.indices.componentType], 1, s.count)[:, 0]
        assert (np.diff(places.astype(int)) > 0).all()
        found[places] = part(s.values.bufferView, kind, width, s.count)
        return found

    return document, values


def matrix(q):
    x, y, z, w = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def validated(path):
    """Khronos' report; skips where node or its package gltf-validator is not there."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    probe = subprocess.run([node, "-e", 'require("gltf-validator")'], capture_output=True)
    if probe.returncode:
        pytest.skip("node has no gltf-validator: npm i gltf-validator, NODE_PATH its folder")
    command = [node, "-e", VALIDATE, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A GLB of the moving portrait, and the faces that it is made of."""
    path = tmp_path_factory.mktemp("glb") / "face.glb"
    boxes = GivenBoxes([FaceBox(*map(float, BOX.split(",")))])
    faces = []
    with (
        FaceTracker("edge", boxes, background=False, expressions=True) as tracker,
        open_source(SOURCE) as source,
        AnimationSink(path) as sink,
    ):
        for frame in source:
            faces += tracker.update(frame)
            sink.write(Result(frame, faces[-1:]))
    return path, faces


def test_the_file_is_valid(recorded):
    issues = validated(recorded[0])["issues"]
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"][:3]


def test_what_blender_and_three_js_look_for(recorded):
    document, values = read(recorded[0])
    (mesh,), (animation,) = document.meshes, document.animations
    assert mesh.extras["targetNames"] == list(ARKIT_NAMES)
    (primitive,) = mesh.primitives
    assert len(primitive.targets) == len(mesh.weights) == 52
    assert [(c.target.node, c.target.path) for c in animation.channels] == [
        (1, "weights"), (0, "rotation"), (0, "translation"),
    ]  # fmt: skip
    assert [node.name for node in document.nodes] == ["Head", "Face"]
    assert document.nodes[0].children == [1]
    assert document.nodes[1].mesh == 0
    assert len(document.images) == 1
    moved = {
        n: np.abs(values(t["POSITION"])).max()
        for n, t in zip(ARKIT_NAMES, primitive.targets, strict=True)
    }
    assert moved.pop("tongueOut") == 0
    assert min(moved[n] for n in moved if not n.startswith("eyeLook")) > 1e-3
    assert max(moved.values()) < 0.06
    jaw = values(primitive.targets[ARKIT_NAMES.index("jawOpen")]["POSITION"])
    assert jaw[:, 1].min() < -0.01


def test_played_back_it_is_the_face_that_was_seen(recorded):
    path, faces = recorded
    document, values = read(path)
    (primitive,), (animation,) = document.meshes[0].primitives, document.animations
    times = values(animation.samplers[0].input)[:, 0]
    np.testing.assert_allclose(times, np.arange(len(faces)) / 30, atol=1e-5)
    weights, turns, places = (values(s.output) for s in animation.samplers)
    weights = weights.reshape(len(faces), 52)
    rest = values(primitive.attributes.POSITION)
    targets = np.stack([values(t["POSITION"]) for t in primitive.targets])
    assert 0.1 < np.ptp(rest[:, 0]) < 0.25  # a head's width, in metres
    assert ((turns[1:] * turns[:-1]).sum(1) > 0.9).all()
    np.testing.assert_allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-5)
    for number in (0, 20, 44):
        face = faces[number]
        np.testing.assert_allclose(weights[number], face.expression, atol=1e-6)
        shown = rest + np.tensordot(weights[number], targets, 1)
        shown = shown @ matrix(turns[number]).T + places[number]
        seen = face_mesh(face).vertices * (1, -1, 1)
        # Up to size and place: the camera's distance is not known.
        scale = np.linalg.norm(seen - seen.mean(0)) / np.linalg.norm(shown - shown.mean(0))
        off = (seen - seen.mean(0)) / scale - (shown - shown.mean(0))
        assert np.sqrt(np.square(off).sum(1).mean()) < 0.003
    # The head moves in the picture's plane as the portrait does.
    unit = np.ptp(rest[:, 0]) / np.ptp(face_mesh(faces[0]).vertices[:, 0])
    moved = faces[20].pose.translation - faces[0].pose.translation
    np.testing.assert_allclose(places[20][:2], moved[:2] * unit, rtol=0.2, atol=0.003)
    assert (places[:, 2] == 0).all()


def towards_z(points, corners):
    """The mean z of the triangles' unit normals, by their areas."""
    a, b, c = (points[corners[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    return normals[:, 2].sum() / np.linalg.norm(normals, axis=1).sum()


def test_faces_look_out_of_the_mesh(recorded):
    document, values = read(recorded[0])
    (primitive,) = document.meshes[0].primitives
    points = values(primitive.attributes.POSITION)
    found = towards_z(points, values(primitive.indices).reshape(-1, 3))
    neutral = load_basis().neutral
    index, corners = grid_triangles(load_layout("ict"), neutral.shape[-1])
    expected = -towards_z(neutral.reshape(3, -1)[:, index].T, corners)  # y down there
    assert 0.5 < expected < 0.53
    assert found == pytest.approx(expected, abs=0.03)
    own = values(primitive.attributes.NORMAL)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-4)
    assert own[:, 2].mean() > 0.5


def test_a_run_writes_one_file(run, tmp_path):
    path = tmp_path / "face.glb"
    arguments = ["run", SOURCE, "--box", BOX, "--no-window", "--mesh", path]
    code, _, err = run(*arguments, "--json", tmp_path / "a.jsonl", "--blendshapes")
    assert code == 0, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "face.glb"]
    document, values = read(path)
    weights = values(document.animations[0].samplers[0].output).reshape(-1, 52)
    lines = read_lines(tmp_path / "a.jsonl")
    shown = [list(line["faces"][0]["blendshapes"].values()) for line in lines]
    np.testing.assert_allclose(weights, shown, atol=6e-4)
    code, _, err = run(*arguments)
    assert code == 2
    assert f"{path}: already exists" in err


def test_a_folder_of_glb_is_still_numbered(run, tmp_path):
    (tmp_path / "out").mkdir()
    code, _, err = run(
        "run", SOURCE, "--max-frames", 2, "--box", BOX, "--no-window", "--mesh", tmp_path / "out"
    )
    assert code == 0, err
    assert len(list((tmp_path / "out").glob("face-00000?-0.obj"))) == 2


def test_a_video_without_a_face_leaves_no_file(tmp_path):
    with AnimationSink(tmp_path / "a.glb") as sink, open_source(SOURCE) as source:
        sink.write(Result(next(iter(source)), []))
    assert os.listdir(tmp_path) == []


def test_a_second_track_and_a_repeated_moment_are_left_out(recorded, tmp_path):
    face = recorded[1][0]
    with open_source(SOURCE) as source:
        frame = next(iter(source))
    with AnimationSink(tmp_path / "a.glb") as sink:
        for moment, id in ((0.0, 0), (0.0, 0), (0.1, 3), (0.2, 0)):
            sink.write(Result(replace(frame, timestamp=moment), [replace(face, id=id)]))
    document, values = read(tmp_path / "a.glb")
    times = values(document.animations[0].samplers[0].input)[:, 0]
    np.testing.assert_allclose(times, [0, 0.2], atol=1e-6)
    if shutil.which("node"):
        assert validated(tmp_path / "a.glb")["issues"]["numErrors"] == 0


@pytest.mark.parametrize("times", [[], [0, 0], [1, 0.5]])
def test_moments_must_rise(tmp_path, times):
    count = len(times)
    animation = FaceAnimation(
        np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.zeros((3, 2), np.float32),
        {"a": np.zeros((3, 3), np.float32)}, np.array(times), np.zeros((count, 1)),
        np.tile([0, 0, 0, 1.0], (count, 1)), np.zeros((count, 3)),
    )  # fmt: skip
    with pytest.raises(BadInput, match="moments in rising order"):
        save_animation(animation, tmp_path / "a.glb")
    assert os.listdir(tmp_path) == []


def test_names_and_models_that_do_not_fit(run, tmp_path):
    with pytest.raises(UsageError, match=r"an animation is a \.glb file"):
        AnimationSink(tmp_path / "a.obj", Outputs())
    model = write_constant_model(tmp_path / "a.onnx", "prnet", 128)
    code, _, err = run(
        "run", SOURCE, "--box", BOX, "--no-window", "--model", model, "--mesh", tmp_path / "a.glb"
    )
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "a.glb").exists()
