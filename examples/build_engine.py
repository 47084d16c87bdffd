"""An FP16 engine of the shipped model, with the manifest that describes it.

python examples/build_engine.py edge-fp16.onnx
"""

import sys
from pathlib import Path

from posgan_edge import load_engine
from posgan_edge.build.engine import BuildRequest, build_engine


def main(output: str) -> None:
    manifest = build_engine(BuildRequest("edge", Path(output), precision="fp16"))
    print(f"{manifest.precision} for {manifest.runtime}, built in {manifest.build_seconds:.1f} s")
    print(load_engine(output).describe())


if __name__ == "__main__":
    main(*sys.argv[1:])
