"""Jitter of a still face and lag of a turning one, with and without the tracker's filters.

    python benchmarks/steadiness.py [--seconds 10] [--json F] [--plot SVG]

Jitter: the still portrait with noise and JPEG; the root-mean-square distance of each landmark from
its mean, in pixels of a 720p frame. Lag: the delay of the filtered angle in milliseconds. It is
measured twice: with the whole tracker, on the portrait that rolls in the picture plane at up to 90
degrees a second (from the correlation with the true angle, relative to the unfiltered one); and
with the filter alone, on a head that turns (yaw) at a constant 90 degrees a second, with the
network's noise. Blink: both eyes are shut for 200 and 150 ms every 1.5 seconds. Measured are depth
and delay of the filtered blink relative to the unfiltered one, in ``openness``, in the surface and
in ``eyeBlink``; "one setting" is the filter without separate settings for eyes and mouth. The sweep
multiplies all cut-off frequencies at rest and, separately, the term that grows with speed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posgan_edge import Face, FaceTracker, blendshapes, openness
from posgan_edge.faces.expression_track import ExpressionTrack
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.geometry.pose import angles_from_rotation, rotation_from_angles
from posgan_edge.live.sources import open_source
from posgan_edge.system import machine_block

RATE, SPEED = 30.0, 90.0
STILL = "synthetic:?sway=0&roll=0&zoom=0&noise=6&jpeg=70&seconds={}"
ONE_SETTING = replace(Smoothing(), eyes=(0, 0), mouth=(0, 0))
#: Other face sizes and frame rates: width and height of the frame, frames a second.
OTHERS = ((640, 360, 30), (320, 180, 30), (1280, 720, 15), (1280, 720, 60))
ROLL = 20.0
BLINK = "synthetic:?sway=0&roll=0&zoom=0&noise=6&jpeg=70&blink=1.5&blink_takes={}&seconds={}"
TURNING = "synthetic:?sway=0&zoom=0&roll={}&period={}&noise=6&jpeg=70&seconds={}"


def faces_of(uri: str) -> list[Face]:
    """Returns the unfiltered faces of a source, one per frame."""
    with FaceTracker(smooth=False, dense=False, background=False) as tracker, open_source(uri) as s:
        return [tracker.update(frame.image, frame.timestamp)[0] for frame in s]


def filtered(faces: list[Face], smoothing: Smoothing, rate: float = RATE) -> list[Face]:
    smoother = FaceSmoother(smoothing, dense=False)
    return [smoother(face, i / rate) for i, face in enumerate(faces)]


def elsewhere(width: int, height: int, rate: int, seconds: float) -> dict[str, float]:
    """Returns the jitter of the still face in another size or at another frame rate."""
    size = f"&width={width}&height={height}&fps={rate}"
    faces = faces_of(STILL.format(seconds) + size)
    raw, steady = jitter(faces), jitter(filtered(faces, Smoothing(), rate))
    return {
        "width": width, "height": height, "fps": rate,
        "face_height_px": float(np.median([f.box.height for f in faces])),
        "unfiltered_px": raw, "filtered_px": steady, "times_lower": raw / steady,
    }  # fmt: skip


def jitter(faces: list[Face]) -> float:
    """Returns the RMS distance in pixels from each landmark's mean, without the first second."""
    points = np.stack([face.landmarks[:, :2] for face in faces])[int(RATE) :]
    return float(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean()))


def lag_ms(late: NDArray[Any], early: NDArray[Any]) -> float:
    """Returns the delay of one signal after another in ms: the best shift, to a tenth of a ms."""
    steps = np.arange(len(early), dtype=float)
    inner = slice(int(RATE), len(early) - int(RATE))

    def off(milliseconds: float) -> float:
        moved = np.interp(steps - milliseconds * RATE / 1e3, steps, early)
        return float(np.square(late - moved)[inner].sum())

    shifts = np.arange(-50, 300, 0.5)
    return float(shifts[np.argmin([off(s) for s in shifts])])


def blink(takes: float, seconds: float) -> dict[str, dict[str, float]]:
    """Returns depth (share of the unfiltered depth) and delay of blinks."""
    own, one = FaceSmoother(), FaceSmoother(ONE_SETTING)
    smooth, plain = ExpressionTrack(), ExpressionTrack(smooth=False)
    rows = []
    uri = BLINK.format(takes, seconds)
    with FaceTracker(smooth=False, background=False) as tracker, open_source(uri) as source:
        for frame in source:
            (face,) = tracker.update(frame)
            faces = face, own(face, frame.timestamp), one(face, frame.timestamp)
            surfaces = [
                f.crop.to_frame(f.dense_map.layout.landmarks(f.dense_map.xyz)) for f in faces
            ]
            shapes = [blendshapes(face, track, 1 / RATE) or {} for track in (plain, smooth)]
            rows.append([
                *(opened(f.landmarks) for f in faces), *(opened(s) for s in surfaces),
                *(-(s["eyeBlinkLeft"] + s["eyeBlinkRight"]) / 2 for s in shapes),
            ])  # fmt: skip
    columns = np.array(rows).T
    pairs = {
        "openness": (0, 1), "openness, one setting": (0, 2),
        "surface": (3, 4), "surface, one setting": (3, 5), "eyeBlink": (6, 7),
    }  # fmt: skip
    return {
        name: {
            "depth": depth(columns[raw]),
            "depth_filtered_share": depth(columns[shown]) / depth(columns[raw]),
            "later_ms": lag_ms(columns[shown], columns[raw]),
        }
        for name, (raw, shown) in pairs.items()
    }


def opened(landmarks: NDArray[Any]) -> float:
    """Returns the openness of both eyes."""
    eyes = openness(landmarks)
    return (eyes["right_eye"] + eyes["left_eye"]) / 2


def depth(signal: NDArray[Any]) -> float:
    """Returns how far blinks 1.5 seconds apart fall below the usual value; the first two are
    ignored."""
    each = signal[: len(signal) // 45 * 45].reshape(-1, 45)[2:]
    return float(np.median(signal) - each.min(axis=1).mean())


def turned(faces: list[Face], degrees: NDArray[Any]) -> list[Face]:
    """Returns the faces of a still head with its noise, turned about the vertical axis."""
    flip = np.array([1.0, -1.0, 1.0])
    result = []
    for face, yaw in zip(faces, degrees, strict=True):
        pose = face.pose
        turn = rotation_from_angles(0, yaw, 0)
        center = pose.translation
        points = ((face.landmarks * flip - center) @ turn.T + center) * flip
        rotation = turn @ pose.rotation
        new = replace(
            pose, pitch=0.0, yaw=angles_from_rotation(rotation)[1], roll=0.0, rotation=rotation
        )
        result.append(replace(face, landmarks=points.astype(np.float32), pose=new))
    return result


def scaled(at_rest: float, per_speed: float) -> Smoothing:
    base = Smoothing()
    return Smoothing(**{
        f.name: (getattr(base, f.name)[0] * at_rest, getattr(base, f.name)[1] * per_speed)
        for f in fields(base)
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    still = faces_of(STILL.format(options.seconds))
    # A swing of so many degrees whose fastest moment is SPEED.
    period = 2 * np.pi * ROLL / SPEED
    rolling = faces_of(TURNING.format(ROLL, period, options.seconds))
    raw_roll = np.unwrap([f.pose.in_plane for f in rolling], period=360)
    # Back and forth at a steady speed, 30 degrees to either side.
    seconds = np.arange(len(still)) / RATE
    sweep = 60 * np.abs((seconds * SPEED / 120 + 0.25) % 1 * 2 - 1) - 30
    yaws = turned(still, sweep)
    raw_yaw = np.array([f.pose.yaw for f in yaws])

    def measure(smoothing: Smoothing) -> dict[str, float]:
        roll = np.unwrap([f.pose.in_plane for f in filtered(rolling, smoothing)], period=360)
        yaw = np.array([f.pose.yaw for f in filtered(yaws, smoothing)])
        return {
            "jitter_px": jitter(filtered(still, smoothing)),
            "lag_roll_ms": lag_ms(roll, raw_roll),
            "lag_yaw_ms": lag_ms(yaw, raw_yaw),
        }

    chosen = measure(Smoothing())
    unfiltered = jitter(still)
    result = {
        "machine": machine_block(),
        "frames": len(still),
        "degrees_a_second": SPEED,
        "face_height_px": float(np.median([f.box.height for f in still])),
        "jitter_px": {"unfiltered": unfiltered, "filtered": chosen["jitter_px"],
                      "times_lower": unfiltered / chosen["jitter_px"],
                      "one setting": jitter(filtered(still, ONE_SETTING))},
        "lag_ms": {"roll, whole tracker": chosen["lag_roll_ms"],
                   "yaw, filter alone": chosen["lag_yaw_ms"]},
        "elsewhere": [elsewhere(*other, options.seconds) for other in OTHERS],
        "blink": {f"{round(1e3 * t)} ms": blink(t, options.seconds) for t in (0.2, 0.15)},
        "smoothing": {f.name: getattr(Smoothing(), f.name) for f in fields(Smoothing)},
        "sweep": [
            {"at_rest": rest, "per_speed": speed, **measure(scaled(rest, speed))}
            for speed in (0.5, 1.0, 2.0) for rest in (0.25, 0.5, 1.0, 2.0, 4.0)
        ],
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "sweep"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        plot(result, options.plot)


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for speed in (0.5, 1.0, 2.0):
        rows = [r for r in result["sweep"] if r["per_speed"] == speed]
        lags = [max(r["lag_roll_ms"], r["lag_yaw_ms"]) for r in rows]
        axes.plot(lags, [r["jitter_px"] for r in rows], "o-", label=f"speed term x {speed:g}")
    lag = max(result["lag_ms"].values())
    axes.plot(lag, result["jitter_px"]["filtered"], "k*", markersize=14, label="chosen")
    axes.axhline(result["jitter_px"]["unfiltered"], color="grey", ls=":", label="unfiltered")
    axes.axhline(result["jitter_px"]["unfiltered"] / 3, color="grey", ls="--", label="a third")
    axes.set(
        xlabel=f"lag at {SPEED:g} degrees a second, ms", ylabel="jitter, px RMS", ylim=(0, None)
    )
    axes.legend(fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main()
