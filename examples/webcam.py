"""The live loop as a library: a source, a tracker and a sink of your own.

python examples/webcam.py 0                      # a camera; Ctrl-C ends it
python examples/webcam.py synthetic:?seconds=2   # a moving portrait, without a camera
"""

import sys

from posgan_edge import FaceTracker
from posgan_edge.live.capture import Capture
from posgan_edge.live.loop import run_live
from posgan_edge.live.sinks import Result, Sink
from posgan_edge.live.sources import open_source


class PrintPose(Sink):
    """Prints one line for each face of each frame."""

    name = "print"

    def write(self, result: Result) -> None:
        for face in result.faces:
            pose = face.pose
            print(
                f"{result.frame.timestamp:6.2f} s  face {face.id}  "
                f"pitch {pose.pitch:+5.1f}  yaw {pose.yaw:+5.1f}  roll {pose.roll:+5.1f}"
            )


def main(address: str) -> None:
    with Capture(open_source(address)) as capture, FaceTracker(max_faces=2) as tracker:
        report = run_live(capture, tracker, [PrintPose()])
    print(f"{report.processed} frames, {report.with_face} with a face")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "0")
