"""The real TensorRT bindings, with a stub in place of their libraries: does all we name exist?"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "posgan_edge"
#: What each variable of our code is an instance of.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "engine": "ICudaEngine",
    "execution": "IExecutionContext",
    "_execution": "IExecutionContext",
    "_runtime": "Runtime",
}
ENTRY_POINTS = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
]
PROBE = """
import json, sys
import tensorrt_bindings as trt
missing = []
for dotted in json.load(open(sys.argv[1])):
    thing = trt
    for part in dotted.split("."):
        if not hasattr(thing, part):
            missing.append(dotted)
            break
        thing = getattr(thing, part)
print(json.dumps([trt.__version__, missing]))
"""


def touched() -> list[str]:
    """Every dotted name of TensorRT that the builder and the runtime use, found in their source."""
    names = set()
    for file in ("engines/tensorrt.py", "build/tensorrt.py"):
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            dotted = ast.unparse(node)
            parts = dotted.removeprefix("self.").split(".")
            if parts[0] == "trt":
                names.add(".".join(parts[1:]))
            elif parts[0] in CLASSES and len(parts) == 2:
                names.add(f"{CLASSES[parts[0]]}.{parts[1]}")
    # RTX alone has compute capabilities to choose; tensorrt_rtx is tested by real builds.
    return sorted(
        n for n in names if "ompute_capabilit" not in n and not n.startswith("ComputeCapability")
    )


def test_what_our_code_touches_is_found():
    names = touched()
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in names
    assert "IExecutionContext.execute_async_v3" in names
    assert "Builder.build_serialized_network" in names
    assert not {n for n in names if re.search("EXPLICIT_BATCH|FP16|INT8|device_memory_size$", n)}
    assert len(names) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "wheel",
    ["tensorrt-cu12-bindings==10.3.0", "tensorrt-cu13-bindings==10.16.1.11",
     "tensorrt-cu13-bindings==11.4.0.106"],
)  # fmt: skip
def test_real_bindings_have_it_all(tmp_path, wheel):
    if shutil.which("gcc") is None or sys.platform != "linux":
        pytest.skip("no gcc to make the stub library with")
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), wheel],
        capture_output=True, text=True,
    )  # fmt: skip
    if fetched.returncode:
        pytest.skip(f"{wheel} cannot be downloaded: {fetched.stderr.strip().splitlines()[-1:]}")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path)
    library = (tmp_path / "tensorrt_bindings" / "tensorrt.so").read_bytes()
    source = tmp_path / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
    for name in set(re.findall(rb"libnv\w+\.so[.\d]*", library)):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(tmp_path / name.decode()),
                        str(source)], check=True)  # fmt: skip
    (tmp_path / "names.json").write_text(json.dumps(touched()))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path / "names.json")],
        capture_output=True, text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    version, missing = json.loads(done.stdout.strip().splitlines()[-1])
    assert version.startswith(wheel.split("==")[1][:4].rstrip("."))
    assert missing == []
