"""Faces as Parquet: what is written is what is read."""

import base64
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from posgan_edge import FaceBox, FacePipeline, Frame, load_engine, load_layout
from posgan_edge.engines.modes import onnx_modes
from posgan_edge.engines.torch import TorchEngine
from posgan_edge.errors import BadInput, MissingRuntime, UsageError
from posgan_edge.faces.smoothing import FaceSmoother, Smoothing
from posgan_edge.faces.track_filter import filtered_apart
from posgan_edge.geometry.values import PositionMap
from posgan_edge.images import read_image
from posgan_edge.jobs import parquet
from posgan_edge.jobs.mapcodes import MapCode
from posgan_edge.jobs.parquet import ParquetSink, read_faces, read_rows
from posgan_edge.live.sinks import Result
from posgan_edge.models.edge import EdgeGenerator
from posgan_edge.models.unet import UNetGenerator
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX, read_lines, write_constant_model
from tests.helpers.there import there

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
BOX = FaceBox(*PORTRAIT_BOX)


@pytest.fixture(scope="module")
def engine():
    with load_engine("edge") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def portrait():
    return Frame(read_image(PORTRAIT), index=3, timestamp=0.125, name="a/portrait.jpg")


def write(path, engine, *results):
    with ParquetSink(path, engine) as sink:
        for frame, faces in results:
            sink.write(Result(frame, faces))
    return path


def off_px(found, face):
    """Largest distance of a map's coordinates, in frame pixels."""
    xyz = found.position_map.xyz - face.position_map.xyz.astype(np.float64)
    return np.abs(xyz).max() * face.crop.side


def assert_same(found, face):
    assert (found.box, found.crop, found.id) == (face.box, face.crop, face.id)
    assert np.array_equal(found.landmarks, face.landmarks)
    assert np.array_equal(found.facing, face.facing)
    assert np.array_equal(found.pose.rotation, face.pose.rotation)
    assert np.array_equal(found.pose.translation, face.pose.translation)
    for name in ("pitch", "yaw", "roll", "scale", "residual"):
        assert getattr(found.pose, name) == getattr(face.pose, name)
    assert found.position_map.layout == face.position_map.layout


@pytest.mark.parametrize("model", ["edge", "edge-int8"])
def test_faces_come_back_as_they_were(tmp_path, portrait, model):
    with load_engine(model) as engine, FacePipeline(engine) as pipeline:
        boxes = BOX, FaceBox(180, 92, 99, 91, 0.5)
        faces = [pipeline.process(portrait, [box])[0] for box in boxes]
        path = write(tmp_path / "faces.parquet", engine, (portrait, faces))
    rows = list(read_rows(path))
    assert [(r.source, r.frame, r.timestamp, r.width, r.height) for r in rows] == [
        ("a/portrait.jpg", 3, 0.125, portrait.image.shape[1], portrait.image.shape[0])
    ] * 2
    for found, face in zip(read_faces(path), faces, strict=True):
        assert_same(found, face)
        assert off_px(found, face) <= 1e-4
    stored = pq.read_table(path)
    assert (
        stored.schema.field("map_coefficients").type.list_size == 195
    )  # 64 modes and a shift, 3 axes
    assert np.isfinite(stored["map_coefficients"].to_pylist()).all()
    assert stored["map_values"].null_count == 2
    assert max(stored["map_error_px"].to_pylist()) <= 1e-4


@pytest.mark.parametrize("name", ["aflw", "300w"])
def test_landmark_sets_come_back(tmp_path, engine, portrait, name):
    layout = load_layout("ict").with_landmarks(name)
    with FacePipeline(engine, layout=layout) as pipeline:
        (face,) = pipeline.process(portrait, [BOX])
    (found,) = read_faces(write(tmp_path / "faces.parquet", engine, (portrait, [face])))
    assert found.dense_map.layout.landmark_set == name
    for other in ("aflw", "300w"):
        expected = face.dense_map.landmarks(other)
        assert found.dense_map.landmarks(other) == pytest.approx(expected, abs=1e-6)


def test_a_face_takes_kilobytes(tmp_path, engine, portrait):
    with FacePipeline(engine) as pipeline:
        faces = [pipeline.process(portrait, [FaceBox(179 + i / 50, 88, 97, 90)])[0]
                 for i in range(20)]  # fmt: skip
    sizes = [
        write(tmp_path / f"{n}.parquet", engine, (portrait, faces[:n])).stat().st_size
        for n in (10, 20)
    ]
    assert (sizes[1] - sizes[0]) / 10 < 3000  # the map alone is 196,608


@pytest.mark.parametrize(
    ("settings", "apart"),
    [
        (Smoothing(eyes=(0, 0), mouth=(0, 0)), 0),
        # Eyes and mouth follow faster than the rest: no sum of the modes; the first is as it was.
        (Smoothing(), 5),
    ],
)
def test_smoothed_maps_come_back(tmp_path, engine, portrait, settings, apart):
    smoother, results = FaceSmoother(settings), []
    with FacePipeline(engine, passes=1) as pipeline:
        for index in range(6):
            frame = Frame(portrait.image, index, index / 30)
            (face,) = pipeline.process(frame, [FaceBox(175 + 3 * index, 88, 97, 90)])
            results.append((frame, [smoother(face, frame.timestamp)]))
    path = write(tmp_path / "track.parquet", engine, *results)
    stored = pq.read_table(path)
    assert np.isfinite(stored["map_coefficients"].to_pylist()).all()
    values = [v for v in stored["map_values"].to_pylist() if v is not None]
    pixels = int(filtered_apart(load_layout("ict"), 128).sum())
    assert [len(v) for v in values] == [3 * pixels] * apart
    assert pixels < 128 * 128 / 8
    assert [row.frame for row in read_rows(path)] == list(range(6))
    for found, (_, (face,)) in zip(read_faces(path), results, strict=True):
        assert_same(found, face)
        assert off_px(found, face) <= 1e-6 * face.crop.side  # 135 px


def test_maps_outside_the_span_are_kept_as_they_are(tmp_path, engine, portrait):
    with FacePipeline(engine) as pipeline:
        (face,) = pipeline.process(portrait, [BOX])
    xyz = face.dense_map.xyz.copy()
    xyz[1, 5, 64] += 0.01  # the forehead
    object.__setattr__(face, "position_map", PositionMap(xyz, face.dense_map.layout))
    path = write(tmp_path / "faces.parquet", engine, (portrait, [face]))
    (found,) = read_faces(path)
    assert np.array_equal(found.dense_map.xyz, xyz)


def test_a_network_without_modes(tmp_path, portrait):
    with load_engine(write_constant_model(tmp_path / "m.onnx", "prnet", 64)) as engine:
        with FacePipeline(engine) as pipeline:
            faces = pipeline.process(portrait, [BOX])
        assert engine.modes() is None
        path = write(tmp_path / "faces.parquet", engine, (portrait, faces))
    (found,) = read_faces(path)
    assert_same(found, faces[0])
    assert np.array_equal(found.dense_map.xyz, faces[0].dense_map.xyz)
    assert "map_coefficients" not in pq.read_schema(path).names


def test_blendshapes_come_back(tmp_path, engine, portrait):
    values = np.random.default_rng(0).random(52).astype(np.float32)
    with FacePipeline(engine) as pipeline:
        (face,) = pipeline.process(portrait, [BOX])
    faces = [face, replace(face, expression=values.astype(np.float64))]
    path = write(tmp_path / "faces.parquet", engine, (portrait, faces))
    without, found = read_faces(path)
    assert without.expression is None
    assert np.array_equal(there(found.expression), values)


def test_a_face_without_a_map(tmp_path, engine, portrait):
    with FacePipeline(engine, dense=False) as pipeline:
        path = write(
            tmp_path / "faces.parquet", engine, (portrait, pipeline.process(portrait, [BOX]))
        )
    assert [face.position_map for face in read_faces(path)] == [None]


def test_rows_go_to_the_file_in_groups(tmp_path, engine, portrait, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 8)
    with FacePipeline(engine, dense=False) as pipeline:
        faces = pipeline.process(portrait, [BOX])
    with ParquetSink(tmp_path / "faces.parquet", engine) as sink:
        sizes = []
        for _ in range(20):
            sink.write(Result(portrait, faces))
            sizes.append(sink.records.stat().st_size)
    # All rows are as long, and none waits in memory.
    assert [b - a for a, b in pairwise([0, *sizes])] == [sizes[0]] * 20
    found = pq.ParquetFile(tmp_path / "faces.parquet").metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [8, 8, 4]


def test_the_file_appears_whole_at_the_end(tmp_path, engine, portrait):
    path = tmp_path / "faces.parquet"
    path.write_bytes(b"before")
    with ParquetSink(path, engine):
        pass
    assert path.read_bytes() == b"before"  # nothing was found: nothing is replaced
    with FacePipeline(engine) as pipeline:
        faces = pipeline.process(portrait, [BOX])
    with ParquetSink(path, engine) as sink:
        sink.write(Result(portrait, faces))
        assert path.read_bytes() == b"before"
    assert len(list(read_faces(path))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["faces.parquet"]


def foreign(path):
    import pyarrow as pa

    pq.write_table(pa.table({"city": ["Bern"], "people": [1]}), path)


def cut(path):
    foreign(path)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, r"holds no faces of posgan-edge \(columns: city, people\)"),
        (cut, "not a Parquet file that can be read"),
        (lambda p: p.write_text("hello"), "not a Parquet file that can be read"),
        (lambda p: None, "x.parquet: no such Parquet file"),
        (lambda p: p.mkdir(), "not a Parquet file that can be read"),
    ],
)
def test_other_files_are_refused_at_once(tmp_path, make, message):
    path = tmp_path / "x.parquet"
    make(path)
    with pytest.raises(BadInput, match=message) as caught:
        read_faces(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_name_says_what_it_is(tmp_path, engine):
    with pytest.raises(UsageError, match=r"give a name that ends in \.parquet"):
        ParquetSink(tmp_path / "faces.json", engine)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, engine, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingRuntime, match=r"pip install 'posgan-edge\[parquet\]'"):
        ParquetSink(tmp_path / "faces.parquet", engine)


def test_modes_are_those_of_the_file(tmp_path, engine):
    import onnx

    from posgan_edge.build.export import export_onnx

    graph = onnx.load(engine.file).graph
    (modes,) = (onnx.numpy_helper.to_array(i) for i in graph.initializer if i.name == "modes")
    assert np.array_equal(engine.modes(), modes)
    generator = EdgeGenerator(modes=4, map_size=16)
    generator.modes.normal_(0, 0.05)
    export_onnx(generator, tmp_path / "small.onnx")
    with load_engine(tmp_path / "small.onnx") as small:
        assert np.array_equal(there(small.modes()), generator.modes.numpy())
    assert np.array_equal(there(TorchEngine(generator, "t").modes()), generator.modes.numpy())
    assert TorchEngine(UNetGenerator(2), "u").modes() is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x3a\xff\x7f", b"\x3f", b"\x80" * 20])
def test_modes_of_a_broken_file(tmp_path, data):
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(BadInput, match="not an ONNX file"):
        onnx_modes(tmp_path / "x.onnx", 16)


def test_maps_of_another_layout_or_size_are_refused():
    code = MapCode(load_layout("ict"), 16, None)
    wrong = [
        PositionMap(np.zeros((3, 16, 16), np.float32), load_layout("prnet")),
        PositionMap(np.zeros((3, 8, 8), np.float32), load_layout("ict")),
    ]
    for position_map in wrong:
        with pytest.raises(BadInput, match="is among maps of 16 pixels of layout 'ict'"):
            code.code(position_map, 1.0)


@pytest.mark.parametrize("data", [b"hello", b"PK", b"PK\x03\x04" + bytes(40), b"\x93NUMPY"])
def test_text_of_something_else_is_no_code(data):
    for text in (base64.b64encode(data), data):
        with pytest.raises(BadInput, match="modes and layout cannot be read") as caught:
            MapCode.from_text(text)
        assert "\n" not in str(caught.value)


def test_text_cut_anywhere_is_no_code():
    whole = base64.b64decode(MapCode(load_layout("ict"), 16, np.eye(4, 256, dtype="f4")).to_text())
    for length in range(0, len(whole), 997):
        with pytest.raises(BadInput, match="modes and layout cannot be read"):
            MapCode.from_text(base64.b64encode(whole[:length]))


def test_a_file_spoilt_inside_is_refused(tmp_path, engine, portrait):
    with FacePipeline(engine) as pipeline:
        faces = pipeline.process(portrait, [BOX])
    path = write(tmp_path / "faces.parquet", engine, (portrait, faces))
    data = bytearray(path.read_bytes())
    data[200:1200] = bytes(1000)
    path.write_bytes(data)
    with pytest.raises(BadInput, match="cannot be read to its end"):
        list(read_faces(path))


def test_rows_of_other_modes_are_refused(tmp_path, engine, portrait):
    import pyarrow as pa

    with FacePipeline(engine) as pipeline:
        faces = pipeline.process(portrait, [BOX])
    path = write(tmp_path / "faces.parquet", engine, (portrait, faces))
    metadata = pq.read_metadata(path).metadata
    stored = pq.read_table(path)
    few = pa.array([[1.0] * 6], pa.list_(pa.float32(), 6))
    index = stored.schema.get_field_index("map_coefficients")
    changed = stored.set_column(index, "map_coefficients", few).replace_schema_metadata(metadata)
    pq.write_table(changed, path)
    with pytest.raises(BadInput, match="cannot be read to its end"):
        list(read_faces(path))


@pytest.mark.parametrize(
    "source", ["synthetic:?width=640&height=360&sway=0&roll=0&zoom=0", PORTRAIT]
)
def test_run_writes_parquet_like_json(tmp_path, run, source):
    box = "275,112,95,92" if source != PORTRAIT else ",".join(map(str, PORTRAIT_BOX))
    frames = () if source == PORTRAIT else ("--max-frames", 3)
    code, _, err = run(
        "run", source, "--box", box, *frames, "--no-window", "--json", tmp_path / "f.jsonl",
        "--parquet", tmp_path / "f.parquet",
    )  # fmt: skip
    assert code == 0, err
    lines, rows = read_lines(tmp_path / "f.jsonl"), list(read_rows(tmp_path / "f.parquet"))
    assert len(rows) == len(lines) == (1 if source == PORTRAIT else 3)
    for line, row in zip(lines, rows, strict=True):
        assert (row.source, row.frame) == (line["source"], line["frame"])
        assert (row.width, row.height) == (line["width"], line["height"])
        (face,) = line["faces"]
        assert np.round(row.face.landmarks.astype(float), 2).tolist() == face["landmarks"]
        assert np.isfinite(row.face.dense_map.xyz).all()


def test_run_replaces_no_parquet_file(tmp_path, run):
    path = tmp_path / "f.parquet"
    path.write_bytes(b"before")
    code, _, err = run("run", PORTRAIT, "--box", "179,88,97,90", "--no-window", "--parquet", path)
    assert code != 0
    assert "f.parquet" in err
    assert path.read_bytes() == b"before"


def test_a_sink_without_an_engine_says_so(tmp_path, engine, portrait):
    with FacePipeline(engine) as pipeline:
        faces = pipeline.process(portrait, [BOX])
    sink = ParquetSink(tmp_path / "f.parquet")
    with pytest.raises(BadInput, match="give the sink the engine"):
        sink.write(Result(portrait, faces))
    sink.close()
    assert not list(tmp_path.iterdir())


def test_a_column_whose_name_is_not_utf8_is_one_line(tmp_path):
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"kolumn": [1]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"kolumn", b"k\xe4lumn"))
    with pytest.raises(BadInput, match=r"a\.parquet: not a Parquet file that can be read: [^\n]+$"):
        list(read_faces(path))
