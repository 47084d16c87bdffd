"""Figures of ``steadiness.json`` for README.md and docs/live.md; see ``figures.py``."""

from __future__ import annotations

from typing import Any

from records import record, table


def filters() -> str:
    """Jitter and lag, in a sentence."""
    found = record("steadiness")
    return (
        f"The filters reduce the jitter of a still face {found['jitter_px']['times_lower']:.1f} "
        f"times. A head that turns by {found['degrees_a_second']:.0f} degrees a\nsecond is shown "
        f"{found['lag_ms']['roll, whole tracker']:.1f} ms late.\n"
    )


def still() -> str:
    """Jitter of a still portrait, by size and frame rate."""
    found = record("steadiness")
    jitter = found["jitter_px"]
    first = {
        "width": 1280, "height": 720, "fps": 30, "face_height_px": found["face_height_px"],
        "unfiltered_px": jitter["unfiltered"], "filtered_px": jitter["filtered"],
        "times_lower": jitter["times_lower"],
    }  # fmt: skip
    rows = [
        [f"{f['width']}x{f['height']}, {f['fps']} a second", f"{f['face_height_px']:.0f}",
         f"{f['unfiltered_px']:.2f}", f"{f['filtered_px']:.3f}", f"{f['times_lower']:.1f}"]
        for f in [first, *found["elsewhere"]]
    ]  # fmt: skip
    head = ["the still portrait under noise and JPEG", "face, px", "jitter without, px RMS",
            "with", "times lower"]  # fmt: skip
    return table(head, rows)


def lag() -> str:
    """Lag of a turning head, and what another setting would give."""
    found = record("steadiness")
    # The sweep's settings are factors of those in use.
    used, faster = (
        next(s for s in found["sweep"] if (s["at_rest"], s["per_speed"]) == (1, factor))
        for factor in (1, 2)
    )
    more = 100 * (faster["jitter_px"] / used["jitter_px"] - 1)
    late = found["lag_ms"]
    return (
        f"Lag at {found['degrees_a_second']:.0f} degrees a second: "
        f"{late['roll, whole tracker']:.1f} ms (roll, through the whole tracker), "
        f"{late['yaw, filter alone']:.1f} ms (yaw, through the\nfilter alone). With twice the "
        f"speed term, the first is {faster['lag_roll_ms']:.1f} ms and the jitter is {more:.0f} "
        "% higher.\n"
    )


def blink() -> str:
    """How much of a blink is left by the filters."""
    found = record("steadiness")["blink"]
    rows = []
    for length, parts in found.items():
        own, one, eye = parts["openness"], parts["openness, one setting"], parts["eyeBlink"]
        rows.append(
            [f"{length}, in `openness` and in the surface", *_kept(own), ", ".join(_kept(one))]
        )
        rows.append([f"{length}, in `eyeBlink`", *_kept(eye), ""])
    head = ["a blink", "depth kept", "delay", "with one setting for the whole shape"]
    return table(head, rows)


def _kept(part: dict[str, Any]) -> list[str]:
    return [f"{part['depth_filtered_share'] * 100:.0f} %", f"{part['later_ms']:.0f} ms"]


def lids() -> str:
    """What the filter of the lids costs in jitter."""
    jitter = record("steadiness")["jitter_px"]
    return (
        f"This raises the jitter of the still portrait from {jitter['one setting']:.3f} to "
        f"{jitter['filtered']:.3f} pixels.\n"
    )
