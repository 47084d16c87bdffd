import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.helpers.data import (
    PORTRAIT,
    PORTRAIT_BOX,
    read_lines,
    real_data,
    write_aflw2000,
    write_constant_model,
)  # fmt: skip

BOX = ",".join(map(str, PORTRAIT_BOX))
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "results" / "aflw2000-edge-gt.json"


def picture(path, image):
    cv2.imwrite(str(path), image)
    return path


def test_picture_to_everything(run, tmp_path):
    save, lines, mesh = tmp_path / "a.png", tmp_path / "a.jsonl", tmp_path / "a.obj"
    code, out, err = run(
        "run", "--image", PORTRAIT, "--box", BOX, "--save", save, "--json", lines, "--mesh", mesh,
        "--intrinsics", "700,700,256,256",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "1 face, pitch" in out
    assert cv2.imread(str(save)).shape == (512, 512, 3)
    assert mesh.read_text().count("\nv ") > 10000
    (record,) = read_lines(lines)
    (face,) = record["faces"]
    assert record["source"] == str(PORTRAIT)
    assert np.array(face["landmarks"]).shape == (68, 3)
    assert set(face["pose"]) == {"pitch", "yaw", "roll"}
    assert len(face["box"]) == 4
    assert 0 <= face["score"] <= 1
    assert record["timestamp"] == 0
    assert 300 < face["metric"]["translation_mm"][2] < 3000
    assert face["metric"]["reprojection_px"] < 3
    assert not list(tmp_path.glob(".*"))


def test_detector_finds_the_portrait(run, tmp_path):
    pytest.importorskip("mediapipe")
    code, _, _ = run("run", PORTRAIT, "--json", tmp_path / "a.jsonl")
    assert code == 0
    (face,) = read_lines(tmp_path / "a.jsonl")[0]["faces"]
    assert face["box"][:2] == pytest.approx(PORTRAIT_BOX[:2], abs=12)
    assert face["score"] > 0.5


def test_turned_portrait_is_found(run, tmp_path):
    pytest.importorskip("mediapipe")
    image = cv2.rotate(cv2.imread(str(PORTRAIT)), cv2.ROTATE_180)
    picture(tmp_path / "down.png", image)
    code, _, _ = run("run", tmp_path / "down.png", "--json", tmp_path / "a.jsonl")
    assert code == 0
    (face,) = read_lines(tmp_path / "a.jsonl")[0]["faces"]
    assert abs(face["pose"]["roll"]) > 160
    assert face["landmarks"][30][:2] == pytest.approx([512 - 224, 512 - 127], abs=4)


def deep(path):
    cv2.imwrite(str(path), cv2.imread(str(PORTRAIT)).astype(np.uint16) * 257)


def with_alpha(path):
    cv2.imwrite(str(path), cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2BGRA))


def grey(path):
    cv2.imwrite(str(path), cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("make", [deep, with_alpha, grey])
def test_unusual_pictures_work(run, tmp_path, make):
    make(tmp_path / "a.png")
    code, _, err = run("run", tmp_path / "a.png", "--box", BOX, "--json", tmp_path / "a.jsonl")
    assert (code, err) == (0, "")
    points = np.array(read_lines(tmp_path / "a.jsonl")[0]["faces"][0]["landmarks"])
    assert points[30, :2] == pytest.approx((224, 127), abs=4)


def truncated(path):
    path.write_bytes(PORTRAIT.read_bytes()[:4000])


def jpeg_2000(path):
    path.write_bytes(cv2.imencode(".jp2", np.zeros((32, 32, 3), np.uint8))[1].tobytes())


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("absent.jpg", lambda p: None, "cannot be read: No such file or directory"),
        ("empty.jpg", lambda p: p.write_bytes(b""), "is empty"),
        ("cut.jpg", truncated, "is a truncated JPEG"),
        ("text.png", lambda p: p.write_text("hello"), "is not a picture that can be decoded"),
        ("folder.jpg", lambda p: p.mkdir(), "no pictures in this folder"),
        ("a.jp2", jpeg_2000, "is JPEG 2000, which is not read"),
        ("b.jpg", jpeg_2000, "is JPEG 2000, which is not read"),
    ],
)
def test_bad_pictures_do_not_stop_the_others(run, tmp_path, name, make, message):
    make(tmp_path / name)
    code, out, err = run(
        "run", tmp_path / name, PORTRAIT, "--box", BOX, "--save", tmp_path / "out",
        "--json", tmp_path / "a.jsonl",
    )  # fmt: skip
    assert code == 4
    assert f"error: {tmp_path / name}: {message}" in err
    assert "error: 1 of 2 pictures failed" in err
    assert "Traceback" not in err
    assert "portrait.jpg: 1 face" in out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["portrait.jpg"]
    assert len(read_lines(tmp_path / "a.jsonl")) == 1


def test_no_face_is_reported(run, tmp_path):
    pytest.importorskip("mediapipe")
    picture(tmp_path / "grey.png", np.full((200, 300, 3), 127, np.uint8))
    picture(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    (tmp_path / "out").mkdir()
    code, _, err = run(
        "run", tmp_path / "grey.png", tmp_path / "dot.png", "--save", tmp_path / "out",
        "--json", tmp_path / "a.jsonl",
    )  # fmt: skip
    assert code == 4
    assert err.count("no face was found") == 2
    assert "error: 2 of 2 pictures failed" in err
    assert not list((tmp_path / "out").iterdir())
    assert [line["faces"] for line in read_lines(tmp_path / "a.jsonl")] == [[], []]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run"], 2, "exactly one of the three"),
        (["run", PORTRAIT, "--video", "x.mp4"], 2, "exactly one of the three"),
        (["run", PORTRAIT, "--box", "1,2,3"], 2, "give four numbers"),
        (["run", PORTRAIT, "--box", "1,2,0,5"], 2, "above zero"),
        (["run", PORTRAIT, PORTRAIT, "--save", "a.png"], 2, "names one file"),
        (["run", PORTRAIT, "--fps", "5"], 2, "--fps is for videos, cameras and streams"),
        (["run", PORTRAIT, "--drop-frames"], 2, "--drop-frames is for videos, cameras"),
        (["run", PORTRAIT, "--save", "a.mp4"], 2, "a.mp4: unknown file type: use .jpg"),
        (["run", "none/*.jpg"], 4, "none/*.jpg: matches no pictures"),
        (["run", "@none.txt"], 4, "none.txt: cannot be read as a list of names"),
        (["run", "synthetic:", "--serve", "80a"], 2, "give PORT or HOST:PORT"),
        (["run", "synthetic:", "--token", "x"], 2, "--token needs --serve"),
        (["run", "synthetic:", "--serve", "8", "--token", "x"], 2, "addresses that others can"),
        (["run", "synthetic:?speed=2"], 2, "unknown key 'speed'"),
        (["run", "synthetic:?width=9"], 2, "width must be from 64 to 8192"),
        (["run", "gopher://host/a"], 2, "unknown kind of source 'gopher'"),
        (["run", "csi://front"], 2, "csi:// and its number"),
        (["run", "csi://0", "--box", BOX], 3, "OpenCV built with GStreamer"),
        (["run", "-"], 2, "need a size, others do not (--size WIDTHxHEIGHT)"),
        (["run", "-", "--size", "640"], 2, "give WIDTHxHEIGHT"),
        (["run", "synthetic:", "--size", "64x64"], 2, "others do not"),
        (["run", "synthetic:", "a.mp4"], 2, "give one video at a time, or cameras"),
        (["run", "synthetic:", "--passes", "2"], 2, "--passes is for pictures"),
        (["run", "synthetic:", "--npz", "a.txt"], 2, "ends in .npz"),
        (["run", "synthetic:", "--parquet", "a.npz"], 2, "ends in .parquet"),
        (["run", "synthetic:", "--mesh", "m/a.stl"], 2, "give a folder"),
        (["run", "synthetic:", "--depth", "d/a.jpg"], 2, "give a folder"),
        (["run", "synthetic:", "--json", "/proc/a.jsonl"], 4, "cannot be written"),
        (["run", PORTRAIT, "--intrinsics", "1,2,3,4"], 2, "--intrinsics needs --json"),
        (["run", PORTRAIT, "--json", "a", "--intrinsics", "1,2"], 2, "four numbers FX,FY,CX,CY"),
        (["run", PORTRAIT, "--json", "a", "--intrinsics", "0,1,1,1"], 4, "above zero"),
        (["run", PORTRAIT, "--save", PORTRAIT], 2, "is a source or another output"),
        (["run", "synthetic:", "--json", "a.x", "--summary", "./a.x"], 2, "another output"),
        (["run", PORTRAIT, "--mirror-texture"], 2, "--mirror-texture needs --texture"),
        (["run", PORTRAIT, "--depth", "a.jpg"], 2, "a.jpg: unknown file type: use .npy, .png"),
        (["run", "--image", "synthetic:"], 2, "--image takes pictures"),
        (["run", PORTRAIT, "--nonsense"], 2, "No such option"),
        (["run", "--camera", "/dev/video99", "--box", BOX], 4, "camera cannot be opened"),
        (["run", "--video", "absent.mp4", "--box", BOX], 4, "no such video file"),
        (["run", "--video", str(PORTRAIT.with_suffix(".npz")), "--box", BOX], 4, "no such video"),
        (["run", PORTRAIT, "--model", "absent.onnx"], 4, "no such model file"),
        (["run", PORTRAIT, "--box", BOX, "--save", "/proc/none/a.png"], 4, "cannot be made"),
        (["run", PORTRAIT, "--box", BOX, "--json", "/proc/a.jsonl"], 4, "cannot be written"),
        (["run", PORTRAIT, "--box", BOX, "--mesh", "a.stl"], 2, "use .obj, .ply, .glb"),
        (["benchmark", "--dataset", "/nowhere"], 4, "no folder found"),
        (["benchmark", "--dataset", ".", "--labels", "new"], 4, "no NAME.jpg"),
        (["export", "--model", "absent.pth", "--output", "a.onnx"], 4, "no such checkpoint"),
        (["export", "--model", "absent.pth", "--output", "a.bin"], 4, "must end in .onnx"),
        (["train", "edge", "--data", "/nowhere", "--output", "o"], 4, "no basis.npz"),
        (["teach"], 2, "No such command"),
    ],
)
def test_errors_are_one_line(run, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def moving_portrait(path, count=5):
    portrait = cv2.imread(str(PORTRAIT))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (512, 512))
    for i in range(count):
        writer.write(np.roll(portrait, 2 * i, axis=1))
    writer.release()
    return path


def test_video_in_gives_video_out(run, tmp_path):
    source = moving_portrait(tmp_path / "in.mp4")
    code, out, err = run(
        "run", "--video", source, "--box", BOX, "--save", tmp_path / "out.mp4",
        "--json", tmp_path / "out.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert "5 frames, a face in 5" in out
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    stamps = [line["timestamp"] for line in read_lines(tmp_path / "out.jsonl")]
    assert stamps == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])


def test_broken_video(run, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 50)
    code, _, err = run("run", "--video", tmp_path / "a.mp4", "--box", BOX)
    assert (code, err.count("\n")) == (4, 1)
    assert "not a video that can be decoded" in err


@pytest.mark.slow
def test_video_whose_header_promises_too_much(run, tmp_path):
    video = real_data("video/talking-head-720p.mp4")
    code, out, _ = run("run", "--video", video, "--json", tmp_path / "a.jsonl")
    assert code == 0
    assert "its header promises 158" in out
    assert len(read_lines(tmp_path / "a.jsonl")) == 55


TURNED = """
import os, sys
from posgan_edge import cli
from posgan_edge.errors import MissingRuntime

def stopped(*_, **__):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    except BaseException as error:
        raise MissingRuntime("a library is not installed") from error

cli.cli = stopped
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted: files that were open are finished"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_a_signal_that_a_library_turns_into_an_error_of_its_own(number, code, message):
    """As an extension module does that is being imported when the signal comes."""
    done = subprocess.run(
        [sys.executable, "-c", TURNED, str(int(number))], capture_output=True, text=True
    )
    assert done.returncode == code
    assert "not installed" not in done.stderr
    assert message in done.stderr


DROPPED = """
import os, sys, time
from posgan_edge import cli

class Closing:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

def runs(*_, **__):
    closing = Closing()
    del closing
    print("goes on", flush=True)
    try:
        for _ in range(1000):
            time.sleep(0.01)
    finally:
        print("finished", flush=True)

cli.cli = runs
cli.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted: files that were open are finished\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_a_signal_that_comes_in_a_finaliser(number, code, message):
    """Python drops what is raised there."""
    done = subprocess.run(
        [sys.executable, "-c", DROPPED, str(int(number))], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.lstrip()) == (code, message)
    assert done.stdout.split("\n") == ["goes on", "finished", ""]


def test_interrupt_finishes_files(tmp_path):
    from posgan_edge.faces.values import Frame
    from posgan_edge.live.sinks import JsonLinesSink, Result

    def interrupted(error):
        with JsonLinesSink(tmp_path / "a.jsonl") as sink:
            sink.write(Result(Frame(np.zeros((2, 2, 3), np.uint8)), []))
            raise error

    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error):
            interrupted(error)
        assert len(read_lines(tmp_path / "a.jsonl")) == 1
        (tmp_path / "a.jsonl").unlink()
    with pytest.raises(ZeroDivisionError), JsonLinesSink(tmp_path / "b.jsonl"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_missing_detector_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    for name in [m for m in sys.modules if m.startswith("mediapipe.")]:
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = run("run", PORTRAIT)
    assert code == 3
    assert "pip install 'posgan-edge[detect]'" in err


def test_benchmark_writes_scores(run, tmp_path):
    folder = write_aflw2000(tmp_path / "set")
    code, out, err = run(
        "benchmark", "--dataset", folder, "--json", tmp_path / "s.json", "--limit", 3
    )
    assert code == 0, err
    assert "mean of yaw bins" in out
    document = json.loads((tmp_path / "s.json").read_text())
    scores = document["engines"]["edge"]
    assert (document["schema"], document["settings"]["crop"], scores["faces"]) == (2, "gt", 3)
    assert set(scores["labels"]) == {"original", "reannotated"}
    assert document["machine"]["cpu"]


def test_doctor_names_what_is_there(run):
    code, out, _ = run("doctor")
    assert code == 0
    assert "running ONNX models: onnxruntime" in out
    assert " no  showing a window: no display: use --serve PORT or --save" in out
    assert re.search(r"(yes| no)  CSI cameras \(csi://0\): OpenCV 4", out)


@pytest.mark.parametrize(
    ("modules", "line"),
    [
        ({"posgan_edge_kernels": None}, " no  .*: numpy does it; .*pip install ./cpp_ext"),
        (
            {"": {"with_cuda": False}},
            " no  .*: posgan_edge_kernels 9 was built without CUDA: host path only",
        ),
        (
            {"": {}, ".cuda": {"device_count": lambda: (0, "no driver")}},
            " no  .*: posgan_edge_kernels 9 for 8.7, 9.0; no device: no driver",
        ),
        (
            {"": {}, ".cuda": {"device_count": lambda: (1, "")}},
            "yes  .*: posgan_edge_kernels 9 for 8.7, 9.0",
        ),
    ],
)
def test_doctor_tells_of_the_kernels(run, monkeypatch, modules, line):
    for name, attributes in modules.items():
        module = attributes
        if attributes is not None:
            shared = {"__version__": "9", "with_cuda": True, "ARCHITECTURES": ("8.7", "9.0")}
            name = f"posgan_edge_kernels{name}"
            module = SimpleNamespace(**{**shared, **attributes})
        monkeypatch.setitem(sys.modules, name, module)
    _, out, _ = run("doctor")
    assert re.search(f"^{line}$", out.replace("\n     ", " "), re.MULTILINE), out


@pytest.mark.parametrize(
    "words", [["doctor"], ["export", "--help"], ["compare", BENCHMARK, BENCHMARK]]
)
def test_a_reader_that_is_gone_is_no_missed_budget(words):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "posgan_edge", *words], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (None, " no  reading maps with the kernels on the CPU: numpy .*: pip install ./cpp_ext"),
        (
            SimpleNamespace(__version__="9", with_cuda=False),
            "yes  reading maps with the kernels on the CPU: posgan_edge_kernels 9",
        ),
    ],
)
def test_doctor_tells_of_the_kernels_on_the_cpu(run, monkeypatch, module, line):
    monkeypatch.setitem(sys.modules, "posgan_edge_kernels", module)
    _, out, _ = run("doctor")
    assert re.search(f"^{line}$", out, re.MULTILINE), out


@pytest.mark.parametrize("command", [["-c", "import posgan_edge"], ["-m", "posgan_edge", "--help"]])
def test_start_up_is_quick_and_light(command):
    heavy = "torch mediapipe tensorrt pycuda onnxruntime cv2 scipy matplotlib"
    probe = (
        "import sys, posgan_edge, posgan_edge.cli\n"
        f"print([m for m in {heavy.split()} if m in sys.modules])"
    )
    listed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert listed.stdout.strip() == "[]"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True,
                       env=environment)  # fmt: skip
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_run_path_needs_no_torch(tmp_path):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['posgan-edge', 'run', {str(PORTRAIT)!r}, '--box', {BOX!r}, "
        f"'--no-window', '--json', {str(tmp_path / 'a.jsonl')!r}]\n"
        "from posgan_edge.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "a.jsonl")) == 1


def test_landmarks_where_people_put_them(run, tmp_path):
    found = {}
    for name in ("aflw", "300w"):
        path = tmp_path / f"{name}.jsonl"
        code, _, err = run(
            "run", PORTRAIT, "--box", BOX, "--passes", "1", "--landmarks", name, "--json", path,
            "--no-window",
        )  # fmt: skip
        assert code == 0, err
        found[name] = np.array(read_lines(path)[0]["faces"][0]["landmarks"])
    apart = np.linalg.norm(found["aflw"] - found["300w"], axis=1)
    assert apart[:17].max() == 0
    assert 0.3 < apart[17:].mean() < 4
    model = write_constant_model(tmp_path / "original.onnx", "prnet", 256)
    code, _, err = run("run", PORTRAIT, "--box", BOX, "--model", model, "--landmarks", "300w")
    assert (code, err.count("\n")) == (4, 1)
    assert "UV layout 'prnet' has no landmark set '300w': it has 'aflw'" in err


def test_a_layout_without_a_mask_needs_one_for_dense_files(run, tmp_path):
    pytest.importorskip("onnx")
    model = write_constant_model(tmp_path / "original.onnx", "prnet", 256)
    wanted = ("run", PORTRAIT, "--box", BOX, "--model", model, "--mesh", tmp_path / "a.obj")
    code, _, err = run(*wanted)
    assert (code, err.count("\n")) == (2, 1)
    assert "--mesh needs to know where the face ends, and UV layout 'prnet' does not" in err
    mask = np.zeros((256, 256), np.uint8)
    mask[100:110, 100:120] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    code, _, err = run(*wanted, "--uv-mask", tmp_path / "mask.png")
    assert code == 0, err
    assert (tmp_path / "a.obj").read_text().count("\nv ") == 200
    code, _, err = run(*wanted, "--overwrite", "--uv-mask", tmp_path / "absent.png")
    assert (code, err.count("\n")) == (4, 1)
