"""The ARKit blendshapes of a face in a video; its resting face is learned on the way.

python examples/blendshapes.py 0
"""

import sys

from posgan_edge import FaceTracker
from posgan_edge.live.capture import Capture
from posgan_edge.live.sources import open_source


def main(source: str, shown: str = "4") -> None:
    with Capture(open_source(source)) as frames, FaceTracker(expressions=True) as tracker:
        for frame in frames:
            for face in tracker.update(frame):
                values = face.blendshapes
                if values is not None:
                    strongest = sorted(values, key=lambda name: -values[name])[: int(shown)]
                    print("  ".join(f"{name} {values[name]:.2f}" for name in strongest))
            frames.release(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
