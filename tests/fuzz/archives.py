"""Targets: Parquet files, zip archives, and what an interrupted run continues from."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

from posgan_edge.errors import BadInput
from tests.fuzz.files import written
from tests.fuzz.mutations import ODD, archives, as_text, changed, damaged
from tests.fuzz.targets import Target
from tests.helpers import data
from tests.helpers.there import there


# Parquet.
@cache
def _faces() -> bytes:
    from tests.fuzz.api import faces_file

    return faces_file().read_bytes()


@st.composite
def _changed_faces(draw: st.DrawFn) -> bytes:
    """A file of faces of which a column is missing or odd, or of other metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    from posgan_edge.jobs.columns import CODE_KEY

    source = io.BytesIO(_faces())
    table = parquet.read_table(source)
    metadata = dict(parquet.ParquetFile(source).metadata.metadata)
    kind = draw(st.sampled_from(["drop", "null", "odd", "short", "metadata", "empty", "type"]))
    name = draw(st.sampled_from(table.column_names))
    index, column = table.column_names.index(name), table[name].to_pylist()
    try:
        if kind == "drop":
            table = table.drop_columns([name])
        elif kind == "null":
            table = table.set_column(index, name, pa.array([None] * len(table), table[name].type))
        elif kind == "odd":
            value = draw(st.sampled_from(ODD))
            table = table.set_column(index, name, pa.array([value] * len(table)))
        elif kind == "short":
            short = [v[: draw(st.integers(0, 2))] if isinstance(v, list) else v for v in column]
            table = table.set_column(index, name, pa.array(short))
        elif kind == "type":
            type_ = draw(st.sampled_from([pa.string(), pa.float16(), pa.int8(), pa.float64()]))
            table = table.set_column(index, name, table[name].cast(type_))
        elif kind == "empty":
            table = table.slice(0, 0)
        else:
            key = draw(st.sampled_from([k for k in metadata if b"arrow" not in k.lower()]))
            with np.load(io.BytesIO(base64.b64decode(metadata[CODE_KEY]))) as arrays:
                code = draw(archives(dict(arrays)))
            other = draw(st.sampled_from([b"", b"9", b"\xff", b"x" * 1000]))
            metadata[key] = base64.b64encode(code) if key == CODE_KEY else other
        table = table.replace_schema_metadata(
            {k: v for k, v in metadata.items() if b"arrow" not in k.lower()}
        )
        stream = io.BytesIO()
        parquet.write_table(table, stream)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return b""
    return stream.getvalue()


def _faces_file(case: bytes, folder: Path) -> None:
    from posgan_edge import read_faces

    for face in read_faces(written(folder, "a.parquet", case)):
        assert np.isfinite(face.landmarks).all(), "landmarks"
        assert face.landmarks.shape == (68, 3)
        if face.position_map is not None:
            assert face.dense_map.xyz.ndim == 3, "map"


# Zip archives.
@cache
def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.write(data.PORTRAIT, "a.jpg", zipfile.ZIP_STORED)
        archive.write(data.PORTRAIT, "b/c.jpg", zipfile.ZIP_DEFLATED)
    return stream.getvalue()


@st.composite
def _damaged_zip(draw: st.DrawFn) -> bytes:
    """Half of the changes are in the directory at the end."""
    whole = _zip()
    if draw(st.booleans()):
        return draw(damaged(whole))
    end = whole[-200:]
    return whole[:-200] + draw(damaged(end))


def _zip_file(case: bytes, folder: Path) -> None:
    from posgan_edge.live.sources.pictures import PicturesSource, expanded

    written(folder, "a.zip", case)
    source = PicturesSource(expanded("a.zip"))
    while source.read() is not None:
        pass


# Runs that go on.
@cache
def _run() -> dict[str, bytes]:
    """The files of a run over some pictures that a signal stopped at the first."""
    from posgan_edge.live.sinks.records import JsonLinesSink
    from tests.fuzz.targets import command_line

    encode = JsonLinesSink.encode

    def stopped(sink: JsonLinesSink, result: Any) -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        return encode(sink, result)

    folder, here = Path(tempfile.mkdtemp(prefix="posgan-fuzz-")), os.getcwd()
    os.chdir(folder)
    try:
        _pictures(folder)
        with patch.object(JsonLinesSink, "encode", stopped):
            code, said = command_line(_RUN)
        assert code == 130, (code, said)
    finally:
        os.chdir(here)
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    assert any(name.endswith(".progress") for name in found), found.keys()
    return found


_RUN = ["run", "p", "--box", "179,88,97,90", "--no-window", "--threads", "1", "--json", "a.jsonl",
        "--parquet", "a.parquet"]  # fmt: skip


def _pictures(folder: Path) -> None:
    (folder / "p").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (folder / "p" / name).write_bytes(data.PORTRAIT.read_bytes())


def _runs() -> st.SearchStrategy[tuple[str, bytes]]:
    return st.sampled_from(sorted(_run())).flatmap(
        lambda name: st.tuples(st.just(name), _of_run(name))
    )


def _of_run(name: str) -> st.SearchStrategy[bytes]:
    whole = _run()[name]
    if not name.endswith(".progress"):
        return damaged(whole)
    lines = whole.splitlines(keepends=True)

    @st.composite
    def journal(draw: st.DrawFn) -> bytes:
        out = list(lines)
        place = draw(st.integers(0, len(out) - 1))
        out[place] = as_text(draw(changed(json.loads(out[place])))) + b"\n"
        return b"".join(out)

    return st.one_of(journal(), journal(), damaged(whole))


def _resumed(case: tuple[str, bytes], folder: Path) -> None:
    from tests.fuzz.targets import command_line

    _pictures(folder)
    for name, content in {**_run(), case[0]: case[1]}.items():
        written(folder, name, content)
    code, said = command_line([*_RUN, "--resume"])
    assert "Traceback" not in said, said[-300:]
    assert code in (0, 1, 2, 4), f"exit {code}"
    if code:
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert lines, "no error"
        raise BadInput(lines[-1])
    if case[0] != "a.jsonl":  # earlier records are taken as they are
        for line in (folder / "a.jsonl").read_text().splitlines():
            assert there(json.loads(line)) is not None


TARGETS = [
    Target("Parquet of faces", lambda: st.one_of(_changed_faces(), damaged(_faces())), _faces_file),
    Target("zip archive", _damaged_zip, _zip_file),
    Target("interrupted run", _runs, _resumed, 15),
]
