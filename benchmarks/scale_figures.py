"""The sections of ``figures.py`` on many pictures and on servers."""

from __future__ import annotations

from typing import TypeVar

from records import RESULTS, table

from posgan_edge.documents import Document, load
from posgan_edge.evaluation.folder import Folder, PictureCosts
from posgan_edge.evaluation.serving import WAYS, Served

#: Assumptions of ``billion``: pictures with one face each, at most kB of a face in the output (a
#: test checks it), pictures in an archive, cores of a machine and of the cluster; dollars for a
#: core for an hour, for a million reads, and for a TB in the store for a month.
FACES, FACE_KB, ARCHIVE, MACHINE, CLUSTER = 1e9, 3, 10_000, 32, 1_000
CORE_HOUR, MILLION_READS, TB_MONTH = 0.04, 0.40, 23
#: The kind of pictures of the record that the billion pictures are like.
LIKE = "enlarged"


def pictures() -> str:
    """What a picture costs on one core, by stage."""
    found = load(RESULTS / "pictures.json", PictureCosts)
    names = {
        "as it is": "a photo of AFLW2000-3D",
        "enlarged": "the same, enlarged",
        "nine in one": "nine such photos in one picture",
    }
    rows = []
    for kind in found.kinds:
        stages = kind.decode_ms, kind.detect_ms, kind.read_ms, kind.rows_ms
        about = f"{kind.megapixels:.1f} megapixels, {kind.kilobytes:.0f} kB"
        rows.append([f"{names[kind.name]} ({about})", f"{kind.faces:.1f}",
                     *(f"{ms:.1f}" for ms in stages), f"{sum(stages):.1f}"])  # fmt: skip
    head = ["core-milliseconds for a picture", "faces found", "decode", "detect", "two passes",
            "rows", "sum"]  # fmt: skip
    return table(head, rows)


def billion() -> str:
    """Cost and time of a billion faces, on paper."""
    kinds = {kind.name: kind for kind in load(RESULTS / "pictures.json", PictureCosts).kinds}
    one = kinds[LIKE]
    detect, size = one.detect_ms, one.kilobytes
    given = one.decode_ms + one.read_ms + one.rows_ms
    found = given + detect
    assumed, recorded = "assumption", "`benchmarks/results/pictures.json`"
    values = [
        ["*N*, pictures, one face each", f"{FACES:,.0f}", assumed],
        ["*j*, decoding the JPEG file, core-milliseconds", f"{one.decode_ms:.1f}", recorded],
        ["*d*, finding the face, core-milliseconds", f"{detect:.1f}", recorded],
        ["*f*, two passes, core-milliseconds", f"{one.read_ms:.1f}", recorded],
        ["*r*, the row of the table, core-milliseconds", f"{one.rows_ms:.1f}", recorded],
        ["*b*, size of a picture, kB", f"{size:.0f}", recorded],
        ["*o*, size of a face in the output, kB", f"{FACE_KB}",
         "at most, as `tests/test_parquet.py` checks"],
        ["*c*, price of a core for an hour", f"{CORE_HOUR:.2f} $", assumed],
        ["*g*, price of a million reads from the store", f"{MILLION_READS:.2f} $", assumed],
        ["*s*, price of 1 TB in the store for a month", f"{TB_MONTH} $", assumed],
    ]  # fmt: skip
    hours, reads = FACES * found / 3.6e6, FACES / 1e6 * MILLION_READS
    per_second = MACHINE * 1e3 / found, MACHINE * 1e3 / given
    out = FACES * FACE_KB / 1e9
    sums = [
        ["time of a picture on a core", "*t* = *j* + *d* + *f* + *r*", f"{found:.1f} ms"],
        ["of this in the detector", "*d* / *t*", f"{detect / found:.0%}"],
        ["work", "*N t*", f"{hours:,.0f} core-hours"],
        ["price of the cores", "*N t c*", f"{hours * CORE_HOUR:,.0f} $"],
        [f"time on {CLUSTER:,} cores", f"*N t* / {CLUSTER:,}", f"{hours / CLUSTER:.1f} hours"],
        ["work where the boxes are known", "*N* (*t* - *d*)",
         f"{FACES * given / 3.6e6:,.0f} core-hours"],
        [f"a machine of {MACHINE} cores reads", f"{MACHINE} *b* / *t*",
         _flow(per_second[0], size)],
        ["the same, where the boxes are known", f"{MACHINE} *b* / (*t* - *d*)",
         _flow(per_second[1], size)],
        ["reads, a file for each picture", "*N g*", f"{reads:,.0f} $"],
        [f"reads, archives of {ARCHIVE:,} pictures", f"*N g* / {ARCHIVE:,}",
         f"{reads / ARCHIVE:.2f} $"],
        ["input", "*N b*", f"{FACES * size / 1e9:,.0f} TB"],
        ["output", "*N o*, *N o s*", f"{out:,.0f} TB, {out * TB_MONTH:,.0f} $ a month"],
    ]  # fmt: skip
    return (
        f"{table(['name', 'value', 'from'], values)}\n{table(['what', 'formula', 'value'], sums)}"
    )


def _flow(pictures: float, kilobytes: float) -> str:
    gigabits = pictures * kilobytes * 8 / 1e6
    return f"{pictures:,.0f} pictures a second, {gigabits:.1f} Gbit/s"


_METHODS = {
    "posgan-edge": "posgan-edge, up to 16 faces",
    "FaceMesh": "MediaPipe FaceMesh, up to 16 faces",
    "posgan-edge, one face": "posgan-edge, one face",
    "FaceMesh, one face": "MediaPipe FaceMesh, one face",
}


def folder() -> str:
    """Speed over a folder against processes and FaceMesh; memory over a long run."""
    found = _recorded("folder", Folder)
    if found is None:
        return NOT_YET
    beside = {(rate.method, rate.processes): rate for rate in found.rates}
    methods = list(dict.fromkeys(rate.method for rate in found.rates))
    numbers = sorted({rate.processes for rate in found.rates})
    rows = [
        [_METHODS[name], str(beside[name, numbers[0]].faces),
         *(f"{beside[name, n].faces_per_second:.0f}" for n in numbers)]
        for name in methods
    ]  # fmt: skip
    head = ["", "faces found", *(f"faces a second, {_many(n, 'process', 'processes')}"
            for n in numbers)]  # fmt: skip
    text = table(head, rows) + (
        f"\n{found.rates[0].pictures} photos of AFLW2000-3D on {found.machine['cores']} cores of "
        f"an {found.machine['cpu']},\n{_many(found.rounds, 'run', 'runs')} of each in turns.\n"
    )
    if (long := found.memory) is not None:
        tenths = ", ".join(f"{value:.0f}" for value in long.peak_mb_by_tenth)
        text += (
            f"Memory over {long.pictures:,} pictures, all {long.processes} working processes and "
            f"the first one\ntogether, largest in each tenth of {long.seconds:.0f} s: {tenths} "
            "MB.\n"
        )
    return text


def served() -> str:
    """Requests a second and latency of a Triton server, with and without shared memory."""
    found = _recorded("serving", Served)
    if found is None:
        return NOT_YET
    rows = [
        [f"latency, {_many(size, 'picture', 'pictures')} in a request, ms (p90)",
         *(f"{ms[way].median:.1f} ({ms[way].p90:.1f})" for way in WAYS)]
        for size, ms in found.latency_ms.items()
    ] + [
        [f"requests of one picture a second, {_many(count, 'client', 'clients')}",
         *(f"{rate[way]:.0f}" for way in WAYS)]
        for count, rate in found.requests_per_second.items()
    ]  # fmt: skip
    return table(["", "shared memory", "gRPC alone"], rows) + (
        f"\n{found.server}, backend `python`, and its clients on the same "
        f"{found.machine['cores']} cores of an\n{found.machine['cpu']}.\n"
    )


NOT_YET = "Not measured on an idle machine yet.\n"
_Record = TypeVar("_Record", bound=Document)


def _recorded(name: str, kind: type[_Record]) -> _Record | None:
    """A typed record; None if it was not made yet."""
    path = RESULTS / f"{name}.json"
    return load(path, kind) if path.is_file() else None


def _many(count: int | str, one: str, more: str) -> str:
    return f"{count} {one if str(count) == '1' else more}"
