"""The files under ``docker/``: what can be checked without Docker."""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
IMAGES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def instructions(path):
    """(name, arguments) of a Dockerfile, with lines joined and without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_there_is_an_image_for_each_machine():
    assert [path.suffix for path in IMAGES] == [".cpu", ".jetson", ".nvidia"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image(path):
    found = instructions(path)
    names = [name for name, _ in found]
    # A number, so that the runtime can see that it is not root.
    assert [value for name, value in found if name == "USER"] == ["10001"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    made = [value for name, value in found if name == "RUN" and "useradd" in value]
    assert "--uid 10001 --groups video" in made[0]
    assert dict(found)["ENTRYPOINT"] == '["posgan-edge"]'
    assert "--serve" in json.loads(dict(found)["CMD"])
    assert dict(found)["EXPOSE"] == "8080"
    for line in (value for name, value in found if name == "RUN" and "apt-get install" in value):
        assert "--no-install-recommends" in line
        assert "rm -rf /var/lib/apt/lists/*" in line
    for name in re.findall(r"-c (\S+)", path.read_text()):
        assert name.startswith('"') or (ROOT / name).is_file() or name == "docker", name


def test_the_images_opencv_is_the_one_of_the_constraints():
    version = re.search(r"^opencv-python==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert version is not None
    cpu = (ROOT / "docker" / "Dockerfile.cpu").read_text()
    assert f"opencv-python-headless=={version[1]}" in cpu


def test_on_a_jetson_jetpacks_opencv_is_used():
    runs = " ".join(v for n, v in instructions(ROOT / "docker" / "Dockerfile.jetson") if n == "RUN")
    assert "libopencv-python" in runs
    assert "--system-site-packages" in runs
    assert runs.rstrip().endswith("pip uninstall -y opencv-python opencv-contrib-python")


class _Answering(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_the_health_check(path):
    check = dict(instructions(path))["HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    assert command[0].startswith("python")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = command[2].replace("8080", str(server.server_port))
        assert code != command[2]
        for status, healthy in ((200, True), (401, True), (404, False), (500, False)):
            _Answering.status = status
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            assert (done.returncode == 0) is healthy, status
        server.shutdown()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        code = command[2].replace("8080", str(closed.getsockname()[1]))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode != 0


def test_compose_gives_the_camera_and_nothing_more():
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    (service,) = content["services"].values()
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["devices"] == ["/dev/video0:/dev/video0"]
    assert service["command"][:4] == ["run", "/dev/video0", "--serve", "0.0.0.0:8080"]
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "privileged" not in service


def test_hadolint_finds_nothing():
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if (hadolint := shutil.which("hadolint", path=folders)) is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, *IMAGES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
