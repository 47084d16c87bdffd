"""Serving by Triton: repositories, a real server, and the engine that asks it."""

import errno
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline, load_engine
from posgan_edge.engines import triton, triton_memory
from posgan_edge.engines.triton import TritonEngine
from posgan_edge.errors import BadInput, MissingRuntime, PosganError, UsageError
from posgan_edge.images import read_image
from posgan_edge.jobs.triton import Serving, write_repository
from posgan_edge.jobs.triton_models import FACE_OUTPUTS, face_arrays
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX
from tests.helpers.triton import Server, free_ports

NAMES = [name for name, _, _ in FACE_OUTPUTS]


def parsed(path):
    """A config.pbtxt by Triton's own schema."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed"
    )
    return text_format.Parse(path.read_text(), schema.ModelConfig())


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt", "python"])
def test_configs_are_what_triton_takes(tmp_path, backend):
    assert write_repository(tmp_path / "r", "edge", Serving(backend)) == ["edge", "faces"]
    network, faces = (parsed(tmp_path / "r" / n / "config.pbtxt") for n in ("edge", "faces"))
    assert network.name == "edge"
    assert network.backend == {"python": "python"}.get(backend, "onnxruntime")
    assert network.max_batch_size == 16
    assert list(network.dynamic_batching.preferred_batch_size) == [4, 8, 16]
    assert network.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(p.name, list(p.dims)) for p in network.input] == [("image", [3, 128, 128])]
    assert [(p.name, list(p.dims)) for p in network.output] == [("position_map", [3, 128, 128])]
    assert network.parameters["layout"].string_value == "ict"
    accelerators = network.optimization.execution_accelerators.gpu_execution_accelerator
    assert [a.name for a in accelerators] == (["tensorrt"] if backend == "tensorrt" else [])
    kind = network.instance_group[0].Kind.Name(network.instance_group[0].kind)
    assert kind == ("KIND_GPU" if backend == "tensorrt" else "KIND_CPU")
    assert [(p.name, p.optional) for p in faces.input] == [
        (name, True) for name in ("file", "frame", "boxes", "max_faces")
    ]
    assert [p.name for p in faces.output] == NAMES
    assert faces.parameters["network"].string_value == "edge"
    files = {str(p.relative_to(tmp_path / "r")) for p in (tmp_path / "r").rglob("*") if p.is_file()}
    model = (
        {"edge/1/network.onnx", "edge/1/model.py"} if backend == "python" else {"edge/1/model.onnx"}
    )
    configs = {"edge/config.pbtxt", "faces/config.pbtxt", "faces/1/model.py"}
    assert files == model | configs


def test_a_plan_is_served_by_the_tensorrt_backend(tmp_path):
    from posgan_edge.engines.manifest import Manifest
    from posgan_edge.files import sha256

    plan = tmp_path / "edge.engine"
    plan.write_bytes(b"a plan")
    Manifest(
        engine_sha256=sha256(plan), onnx_sha256="0", runtime="tensorrt", runtime_version="10.3",
        precision="int8", name="edge", layout="ict", input_size=128, map_size=128, batch=8,
        command="build-engine",
    ).save(plan)  # fmt: skip
    write_repository(tmp_path / "r", plan, Serving("tensorrt", name="fast"))
    config = parsed(tmp_path / "r" / "fast" / "config.pbtxt")
    assert (config.backend, config.max_batch_size) == ("tensorrt", 8)
    assert config.parameters["precision"].string_value == "int8"
    assert (tmp_path / "r" / "fast" / "1" / "model.plan").read_bytes() == b"a plan"
    for backend in ("onnxruntime", "python"):
        with pytest.raises(BadInput, match="backend tensorrt"):
            write_repository(tmp_path / "other", plan, Serving(backend))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["taken"], 4, "taken: is there and holds something: give a new folder"),
        (["taken/file"], 4, "file: is there and holds something"),
        (["new", "--model", "none.onnx"], 4, "none.onnx: no such model file"),
        (["new", "--model", "a.txt"], 4, "a.txt: backend onnxruntime takes ONNX files"),
        (["new", "--name", "faces"], 2, "give letters and digits, and not 'faces'"),
        (["new", "--name", "a/b"], 2, "give letters and digits"),
        (["new", "--backend", "caffe"], 2, "caffe"),
        (["taken/file/r"], 4, "cannot be written"),
    ],
)
def test_a_repository_that_cannot_be_made(tmp_path, monkeypatch, run, options, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "a.txt").write_text("x")
    found, _, err = run("triton", *options)
    assert (found, message in err) == (code, True), err
    assert "Traceback" not in err
    assert (tmp_path / "taken" / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "taken"]


@pytest.mark.parametrize(
    "address",
    ["triton://", "triton://host", "triton://host:1", "triton://host:1/", "triton://a b:1/x"],
)
def test_addresses_that_are_none(address):
    with pytest.raises(BadInput, match="give triton://HOST:PORT/NAME"):
        load_engine(address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 2}, "the server chooses threads and provider"),
        ({"provider": "cpu"}, "the server chooses threads and provider"),
        ({"verify": "key.pem"}, "what a server runs cannot be verified"),
    ],
)
def test_what_is_the_servers_is_refused(options, message):
    with pytest.raises(BadInput, match=message):
        load_engine("triton://127.0.0.1:1/edge", **options)


def test_without_tritonclient_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tritonclient.grpc", None)
    with pytest.raises(MissingRuntime, match=r"pip install 'posgan-edge\[triton\]'"):
        load_engine("triton://127.0.0.1:1/edge")


def test_a_server_that_is_away_is_one_line(run):
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    (port,) = free_ports(1)
    start = time.monotonic()
    code, _, err = run(
        "run", PORTRAIT, "--box", "179,88,97,90", "--no-window",
        "--model", f"triton://127.0.0.1:{port}/edge",
    )  # fmt: skip
    assert code == 4
    assert f"no Triton server responds at 127.0.0.1:{port}" in err
    assert len(err.strip().splitlines()) == 1
    assert 3 < time.monotonic() - start < 30


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(folder, "edge", Serving("python"))
    return folder


@pytest.fixture(scope="module")
def server(repository):
    started = Server(repository.parent, repository)
    try:
        yield started.wait()
    finally:
        started.kill()


def requests_of(count):
    """(inputs, boxes) of faces requests: the portrait's file and frames of it, moved."""
    image, file = read_image(PORTRAIT), np.fromfile(PORTRAIT, np.uint8)
    x, y, width, height = PORTRAIT_BOX
    for index in range(count):
        box = FaceBox(x + index % 7, y - index % 5, width + index % 3, height)
        if index % 2:
            yield {"file": file}, image, box
        else:
            moved = np.roll(image, index % 4, axis=1)
            yield {"frame": moved}, moved, box


def ask(grpc, client, inputs, names=NAMES):
    tensors = []
    for name, value in inputs.items():
        kind = {"uint8": "UINT8", "float64": "FP64", "int32": "INT32"}[str(value.dtype)]
        tensor = grpc.InferInput(name, list(value.shape), kind)
        tensor.set_data_from_numpy(np.ascontiguousarray(value))
        tensors.append(tensor)
    wanted = [grpc.InferRequestedOutput(name) for name in names]
    result = client.infer("faces", tensors, outputs=wanted, client_timeout=60)
    return {name: result.as_numpy(name) for name in names}


def row(box):
    return np.array([[box.x, box.y, box.width, box.height]])


def counter(server, name, model):
    """A sum of Triton's Prometheus metrics, over the versions and reasons of a model."""
    lines = server.get(server.metrics, "metrics").splitlines()
    found = [
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(f"nv_inference_{name}{{") and f'model="{model}"' in line
    ]
    assert found, f"no nv_inference_{name} of {model}"
    return sum(found)


def counted(server, name, model, least):
    """A sum once it is so large: Triton counts a request after it was answered."""
    end = time.monotonic() + 30
    while (found := counter(server, name, model)) < least and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_a_thousand_requests_of_eight_clients_are_the_local_pipelines(server):
    grpc = pytest.importorskip("tritonclient.grpc")
    world = list(requests_of(140))  # every combination of file or frame, place and size
    with FacePipeline("edge") as pipeline:
        local = [face_arrays(pipeline.process(image, [box]), NAMES) for _, image, box in world]
    assert all(len(arrays["boxes"]) == 1 for arrays in local)

    def client(number):
        wrong = 0
        with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as connection:
            for index in range(number, 1000, 8):
                inputs, _, box = world[index % len(world)]
                found = ask(grpc, connection, inputs | {"boxes": row(box)})
                expected = local[index % len(world)]
                wrong += any(not np.array_equal(found[n], expected[n]) for n in NAMES)
        return wrong

    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(client, range(8))) == [0] * 8
    assert counted(server, "request_success", "faces", 1000) >= 1000
    assert counted(server, "request_success", "edge", 2000) >= 2000  # two passes
    assert counter(server, "request_failure", "edge") == 0
    assert counter(server, "exec_count", "edge") <= counter(server, "count", "edge")
    assert counter(server, "request_duration_us", "faces") > 0


@pytest.mark.slow
def test_the_served_network_is_an_engine(server):
    images = np.random.default_rng(1).random((20, 3, 128, 128), np.float32)
    with (
        load_engine(f"triton://127.0.0.1:{server.grpc}/edge") as engine,
        load_engine("edge") as own,
    ):
        assert engine.info.runtime.startswith("triton 2.")
        assert (engine.info.layout, engine.info.batch, engine.info.map_size) == ("ict", 16, 128)
        assert np.array_equal(engine.infer(images[:3]), own.infer(images[:3]))
        assert engine.infer_all(images) == pytest.approx(own.infer(images), abs=1e-5)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda i: engine.infer(images[i : i + 1]), range(20)))
        for index, maps in enumerate(found):
            assert np.array_equal(maps, own.infer(images[index : index + 1]))
    with pytest.raises(BadInput, match="the engine is closed"):
        engine.infer(images[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [("faces", "not a network of posgan-edge"), ("none", "unknown model|not found")],
)
def test_other_models_are_refused(server, name, message):
    with pytest.raises(BadInput, match=message) as caught:
        load_engine(f"triton://127.0.0.1:{server.grpc}/{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"file": np.frombuffer(b"no picture", np.uint8)}, "file: is not a picture"),
        ({}, "give 'file' .* or 'frame'"),
        ({"frame": np.zeros((8, 8, 3), np.uint8), "boxes": np.array([[1.0, 1, 0, 0]])}, "box"),
    ],
)
def test_bad_requests_get_one_line_and_harm_nobody(server, inputs, message):
    grpc = pytest.importorskip("tritonclient.grpc")
    before = counter(server, "count", "faces")
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        given = inputs or {"max_faces": np.array([1], np.int32)}
        with pytest.raises(grpc._utils.InferenceServerException, match=message):
            ask(grpc, client, given)
        good, _, box = next(requests_of(1))
        assert ask(grpc, client, good | {"boxes": row(box)}, ["boxes"])["boxes"].shape == (1, 4)
    assert counted(server, "count", "faces", before + 2) == before + 2


@pytest.mark.slow
def test_the_detector_looks_where_no_boxes_are_given(server):
    grpc = pytest.importorskip("tritonclient.grpc")
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    from posgan_edge.faces.detector import MediaPipeDetector

    image = read_image(PORTRAIT)
    with FacePipeline("edge", MediaPipeDetector()) as pipeline:
        local = face_arrays(pipeline.process(image, max_faces=4), NAMES)
    nothing = np.zeros((200, 200, 3), np.uint8)
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        found = ask(grpc, client, {"frame": image, "max_faces": np.array([4], np.int32)})
        for name in NAMES:
            assert np.array_equal(found[name], local[name])
        assert ask(grpc, client, {"frame": nothing}, ["boxes"])["boxes"].shape == (0, 4)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_and_started_again(tmp_path, repository):
    first = Server(tmp_path, repository)
    second = None
    try:
        first.wait()
        image = np.zeros((16, 3, 128, 128), np.float32)  # long enough to be killed in it
        address = f"triton://127.0.0.1:{first.grpc}/edge"
        with TritonEngine(address, patience=60) as patient, TritonEngine(address, 0.5) as hasty:
            expected = patient.infer(image)
            asked: list[Any] = []
            done: list[Any] = []
            failed: list[Any] = []

            def go_on():
                while len(done) < 100 and not failed:
                    try:
                        asked.append(None)
                        done.append(np.array_equal(patient.infer(image), expected))
                    except PosganError as error:
                        failed.append(error)

            worker = threading.Thread(target=go_on)
            worker.start()
            while len(done) < 20:
                time.sleep(0.01)
            while len(asked) == len(done):
                time.sleep(0.0005)
            first.kill()
            with pytest.raises(PosganError, match="no Triton server responds") as caught:
                hasty.infer(image)
            assert "\n" not in str(caught.value)
            second = Server(tmp_path, repository, first.ports)
            worker.join(120)
            assert not worker.is_alive()
            assert not failed
            assert len(done) == 100
            assert all(done)
            assert np.array_equal(hasty.infer(image), expected)
            # The new server knows nothing of the memory of before: each engine made it again.
            assert len(regions(second)) == 2
        assert regions(second) == []
    finally:
        first.kill()
        if second is not None:
            second.kill()


def regions(server):
    """Names of the shared memory that a server knows."""
    grpc = pytest.importorskip("tritonclient.grpc")
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        found = client.get_system_shared_memory_status(as_json=True)
    return list(found.get("regions", {}))


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1:8001", True),
        ("127.9.0.3:1", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("10.0.0.1:8001", False),
        ("1127.0.0.1:8001", False),
        ("localhost.example.org:8001", False),
        ("gpu:8001", False),
    ],
)
def test_memory_is_shared_on_this_machine_alone(monkeypatch, tmp_path, host, here):
    monkeypatch.setattr(triton_memory, "FOLDER", tmp_path)
    assert triton_memory.is_here(host) is here
    monkeypatch.setattr(triton_memory, "FOLDER", tmp_path / "none")
    assert not triton_memory.is_here(host)


@pytest.mark.slow
def test_shared_memory_carries_the_same_maps(server, monkeypatch):
    address = f"triton://127.0.0.1:{server.grpc}/edge"
    images = np.random.default_rng(3).random((16, 3, 128, 128), np.float32)
    before = set(triton_memory.FOLDER.glob("posgan-edge-*"))
    sent = []
    put = triton_memory.Region.put

    def noted(region, tensor, values):
        sent.append(values.shape)
        put(region, tensor, values)

    monkeypatch.setattr(triton_memory.Region, "put", noted)
    with load_engine(address) as engine:
        assert engine.info.runtime.endswith(", shared memory)")
        maps = [engine.infer(images[:n]) for n in (1, 16, 3)]
        assert [shape[0] for shape in sent] == [1, 16, 3]
        assert len(regions(server)) == 1
        # Nothing is left in the folder, even by a process that is killed now.
        assert set(triton_memory.FOLDER.glob("posgan-edge-*")) == before
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda i: engine.infer(images[i : i + 1]), range(16)))
        assert 1 <= len(regions(server)) <= 4
    assert regions(server) == []
    monkeypatch.setattr(triton, "is_here", lambda host: False)
    with load_engine(address) as plain:
        assert plain.info.runtime.endswith(f"(127.0.0.1:{server.grpc})")
        for maps_, count in zip(maps, (1, 16, 3), strict=True):
            assert np.array_equal(plain.infer(images[:count]), maps_)
        for index, one in enumerate(found):
            assert np.array_equal(plain.infer(images[index : index + 1]), one)
    assert regions(server) == []


def _elsewhere(monkeypatch, tmp_path):
    """The server looks into /dev/shm, as in a container of its own."""
    monkeypatch.setattr(triton_memory, "FOLDER", tmp_path)


def _full(monkeypatch, tmp_path):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [(_elsewhere, "Unable to open shared memory region"), (_full, "No space left on device")],
)
def test_a_server_that_shares_no_memory_is_one_line(
    server, monkeypatch, tmp_path, caplog, run, change, message
):
    change(monkeypatch, tmp_path)
    address = f"triton://127.0.0.1:{server.grpc}/edge"
    images = np.random.default_rng(3).random((2, 3, 128, 128), np.float32)
    caplog.set_level(logging.WARNING, "posgan_edge")
    with load_engine(address) as engine, load_engine("edge") as own:
        assert "shared memory" not in engine.info.runtime
        for count in (1, 2):
            assert np.array_equal(engine.infer(images[:count]), own.infer(images[:count]))
    (line,) = caplog.messages
    assert line.startswith(f"{address}: shares no memory (")
    assert message in line
    assert "\n" not in line
    assert not list(tmp_path.glob("posgan-edge-*"))
    code, _, err = run(
        "run", PORTRAIT, "--box", "179,88,97,90", "--no-window", "--model", address
    )  # fmt: skip
    assert code == 0, err


def test_serving_options_are_checked():
    for wrong in ({"batch": 0}, {"instances": 0}, {"delay_us": -1}, {"backend": "caffe"}):
        with pytest.raises(UsageError):
            Serving(**wrong)
