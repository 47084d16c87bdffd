"""The kernels' host path under arrays of every kind: each is used, or refused by an error that
names the argument. ``make sanitize`` runs this with the address and undefined-behaviour sanitizers.
"""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

kernels = pytest.importorskip("posgan_edge_kernels", reason="pip install ./cpp_ext")
#: Cases of each operation; more where POSGAN_FAULTS asks for it.
CASES = 150 * int(os.environ.get("POSGAN_FAULTS", "1"))
VALUES = [0.0, 1.0, -1.0, 0.5, 1e-30, 1e9, -1e17, 1e18, 1e30, np.nan, np.inf, -np.inf]
TYPES = ["f4", "f4", "f4", "f2", "f8", "u1", "u1", "i4", "u2", "c8", "?", ">f4"]
NO_ARRAYS: list[object] = [None, 3, "x", [], [[0.0]], {}, b"abc"]
SIZES = [-1, 0, 1, 2, 7, 16, 64, 256, 4097, 1 << 31, 1 << 62, 2.5, "8", None]


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], kind: str) -> Any:
    """An array of that shape and type, or one that differs in some way."""
    if draw(st.integers(0, 30)) == 0:
        return draw(st.sampled_from(NO_ARRAYS))
    sides = list(shape)
    if draw(st.integers(0, 3)) == 0:
        change = draw(st.sampled_from(["side", "drop", "add"]))
        if change == "side":
            axis = draw(st.integers(0, len(sides) - 1))
            sides[axis] = draw(st.sampled_from([0, 1, 2, 3, 5, 70, 300]))
        elif change == "drop":
            sides.pop()
        else:
            sides.insert(0, draw(st.sampled_from([0, 1, 2])))
    dtype = draw(st.sampled_from(TYPES)) if draw(st.integers(0, 5)) == 0 else kind
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        made = (rng.random(sides) * (255 if dtype == "u1" else 1)).astype(dtype)
        for _ in range(draw(st.integers(0, 3)) if made.size and dtype != "u1" else 0):
            place = draw(st.integers(0, made.size - 1))
            made.reshape(-1)[place] = np.float64(draw(st.sampled_from(VALUES))).astype(dtype)
    laid = draw(
        st.sampled_from(["as is"] * 8 + ["step", "back", "turned", "wide", "same", "locked"])
    )
    if laid == "step":
        return made[..., ::2]
    if laid == "back":
        return made[::-1]
    if laid == "turned":
        return made.T
    if laid == "wide" and made.ndim:
        return (
            np.concatenate([made, made], axis=min(1, made.ndim - 1))[:, : made.shape[-1]]
            if made.ndim > 1
            else made
        )
    if laid == "same" and made.ndim:
        return np.broadcast_to(made[:1], made.shape) if len(made) else made
    made.flags.writeable = laid != "locked"
    return made


def transforms(count: int) -> Any:
    """Mostly crops in and around a small frame."""

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        if draw(st.integers(0, 3)) == 0:
            return draw(arrays((count, 2, 3), "f4"))
        side = draw(st.sampled_from([1e-20, 1e-3, 1.0, 9.0, 64.0, 5000.0, 1e9, 1e17]))
        x, y = (draw(st.sampled_from([-1e17, -1e6, -9.0, 0.0, 3.5, 40.0, 1e6, 1e17])) for _ in "xy")
        angle = draw(st.floats(0, 6.3))
        c, s = side * np.cos(angle), side * np.sin(angle)
        return np.tile(np.array([[c, -s, x], [s, c, y]], np.float32), (count, 1, 1))

    return made()


def used_or_refused(call: Any, *values: Any, **options: Any) -> None:
    before = [v.copy() for v in values if isinstance(v, np.ndarray)]
    try:
        found = call(*values, **options)
    except (TypeError, ValueError, MemoryError) as error:
        said = str(error)
    else:
        said = "used"
        for one in found if isinstance(found, tuple) else (found,):
            assert one.dtype in (np.float32, np.float16)
            one.sum()  # reads all of it
    assert said.strip()
    after = [v for v in values if isinstance(v, np.ndarray)]
    assert all(b.tobytes() == a.tobytes() for b, a in zip(before, after, strict=True))


fuzzed = settings(
    max_examples=CASES, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
COUNTS = st.integers(0, 3)


@fuzzed
@given(st.data(), COUNTS, st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_landmarks(data, faces, height, width, facing):
    kind = data.draw(st.sampled_from(["f4", "f2"]))
    used_or_refused(
        kernels.extract_landmarks,
        data.draw(arrays((faces, 3, height, width), kind)),
        data.draw(arrays((data.draw(st.integers(1, 9)), 2), "f4")),
        data.draw(transforms(faces)),
        facing,
    )


@fuzzed
@given(st.data(), COUNTS, st.integers(1, 40), st.integers(1, 40))
def test_crops(data, faces, height, width):
    used_or_refused(
        kernels.crop_normalize,
        data.draw(arrays((height, width, 3), "u1")),
        data.draw(transforms(faces)),
        data.draw(st.sampled_from([8, 8, 8, 8, *SIZES])),
        dtype=data.draw(st.sampled_from(["float32", "float16", "float32", "x", "", 3])),
        border=data.draw(
            st.sampled_from([(0, 0, 0), (9, 9, 9), (np.nan, 0, 0), (1,), (0, 0, 1e30)])
        ),
    )


@fuzzed
@given(st.data(), COUNTS, st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_crops_of_nv12(data, faces, height, width, full):
    chroma = ((height + 1) // 2, (width + 1) // 2, 2)
    used_or_refused(
        kernels.crop_normalize_nv12,
        data.draw(arrays((height, width), "u1")),
        data.draw(arrays(chroma, "u1")),
        data.draw(transforms(faces)),
        data.draw(st.sampled_from([8, 8, 8, *SIZES])),
        matrix=data.draw(st.sampled_from(["bt601", "bt709", "x"])),
        full_range=full,
    )


@fuzzed
@given(st.data(), COUNTS, st.integers(1, 80))
def test_poses(data, faces, count):
    used_or_refused(
        kernels.pose_fit,
        data.draw(arrays((faces, count, 3), "f4")),
        data.draw(arrays((count, 3), "f4")),
        data.draw(st.sampled_from([1, 1, 4, 4, *SIZES])),
    )


def test_crops_that_would_fill_the_memory_are_refused():
    frame = np.zeros((4, 4, 3), np.uint8)
    many = np.tile(np.array([[9, 0, 0], [0, 9, 0]], np.float32), (22, 1, 1))
    with pytest.raises(ValueError, match=r"size: 22 crops of 4096 pixels are more than 4 GiB"):
        kernels.crop_normalize(frame, many, 4096)
