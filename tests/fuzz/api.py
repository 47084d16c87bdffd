"""Target: every parameter of every public name and method, with what does not belong there."""

from __future__ import annotations

import dataclasses
import inspect
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import posgan_edge as pe
from tests.fuzz.materials import good
from tests.fuzz.mutations import ODD
from tests.fuzz.targets import Target
from tests.helpers import data

#: A callable and good arguments by name.
Call = tuple[Callable[..., Any], dict[str, Any]]


@cache
def _edge() -> pe.Engine:
    return pe.load_engine("edge", threads=1)


@cache
def _face() -> pe.Face:
    from tests.test_bad_input import one_face

    face: pe.Face = one_face()
    return face


def _picture() -> NDArray[np.uint8]:
    from tests.test_bad_input import GOOD

    return GOOD.copy()


def _tiny() -> pe.Engine:
    from tests.test_bad_input import TinyEngine

    return TinyEngine()


def _boxes() -> list[pe.FaceBox]:
    return [pe.FaceBox(16, 8, 32, 32)]


def _pipeline() -> pe.FacePipeline:
    return pe.FacePipeline(_tiny(), pe.GivenBoxes(_boxes()))


def _used(**values: Any) -> Any:
    """A pipeline made of the values, at work."""
    with pe.FacePipeline(**values) as pipeline:
        return pipeline.process(_picture(), None if pipeline.detector is not None else _boxes())


def _tracked(**values: Any) -> Any:
    with pe.FaceTracker(**values) as tracker:
        return [tracker.update(_picture(), number / 30) for number in range(3)]


def _goes_on(**values: Any) -> Any:
    """A tracker given values, and then a good frame."""
    with pe.FaceTracker(_tiny(), pe.GivenBoxes(_boxes()), background=False) as tracker:
        try:
            return tracker.update(**values)
        finally:
            after = 2e15 if isinstance(values["timestamp"], float) else 1e6
            assert len(tracker.update(_picture(), min(after, 9e14))) == 1, "the tracker is broken"


def _tracker() -> pe.FaceTracker:
    return pe.FaceTracker(_tiny(), pe.GivenBoxes(_boxes()), background=False)


def _stepped(**values: Any) -> Any:
    """The first step of a tracker."""
    return next(iter(_tracker().steps(**values)))


def _filtered(**values: Any) -> Any:
    smoother = pe.FaceSmoother(**values)
    return [smoother(_face(), number / 30) for number in range(3)]


def _read(face: pe.Face) -> Any:
    return face, face.presence, face.blendshapes, face.visible


def _track() -> pe.ExpressionTrack:
    track = pe.ExpressionTrack()
    track.follow(_face(), 1 / 30)
    return track


def _reading() -> NDArray[np.float32]:
    from posgan_edge.faces.expression import expression_solver

    face = _face()
    return expression_solver().read(face.dense_map, face.crop, face.pose)


@cache
def _detector() -> Any:
    return pe.MediaPipeDetector()


@cache
def faces_file() -> Path:
    from posgan_edge.jobs.parquet import ParquetSink
    from posgan_edge.live.sinks import Result

    path = Path(tempfile.mkdtemp(prefix="posgan-fuzz-")) / "faces.parquet"
    with ParquetSink(path, _tiny()) as sink:
        sink.write(Result(pe.Frame(_picture()), [_face()]))
    return path


def _with(factory: Callable[..., Any], **values: Any) -> Call:
    return factory, values


#: Good calls by the name of what is called; made anew for each case.
CALLS: dict[str, Callable[[], Call]] = {
    "FaceBox": lambda: _with(pe.FaceBox, x=1.0, y=2.0, width=3.0, height=4.0, score=1.0, roll=0.0),
    "FaceBox.iou": lambda: _with(_boxes()[0].iou, other=_boxes()[0]),
    "FaceBox.around": lambda: _with(pe.FaceBox.around, points=_face().landmarks, score=1.0),
    "Crop": lambda: _with(pe.Crop, center_x=20.0, center_y=20.0, side=30.0, angle=0.0),
    "Crop.to_frame": lambda: _with(_face().crop.to_frame, points=_face().landmarks),
    "Crop.to_crop": lambda: _with(_face().crop.to_crop, points=_face().landmarks),
    "Crop.from_box": lambda: _with(pe.Crop.from_box, box=_boxes()[0], scale=1.4),
    "Crop.from_landmarks": lambda: _with(
        pe.Crop.from_landmarks, points=_face().landmarks, angle=0.0, scale=1.4
    ),
    "Pose": lambda: _with(pe.Pose, **vars(_face().pose)),
    "MetricPose": lambda: _with(pe.MetricPose, **vars(_metric())),
    "PositionMap": lambda: _with(pe.PositionMap, **vars(_face().dense_map)),
    "PositionMap.resampled": lambda: _with(_face().dense_map.resampled, resolution=16),
    "Frame": lambda: _with(
        lambda **v: _pipeline().process(pe.Frame(**v)),
        image=_picture(), index=0, timestamp=0.0, name="", captured=0.0, live=False,
    ),
    "Frame.of": lambda: _with(pe.Frame.of, image=_picture(), timestamp=1.0),
    "Face": lambda: _with(lambda **v: _read(pe.Face(**v)), **vars(_face())),
    "Mesh": lambda: _with(
        lambda **v: pe.Mesh(**v).normals(), **vars(pe.face_mesh(_face()))
    ),
    "Mesh.colors": lambda: _with(pe.face_mesh(_face()).colors, image=_picture()),
    "UvLayout": lambda: _with(_laid_out, **vars(pe.load_layout("ict"))),
    "UvLayout.landmarks": lambda: _with(
        pe.load_layout("ict").landmarks, maps=_face().dense_map.xyz
    ),
    "UvLayout.with_landmarks": lambda: _with(
        pe.load_layout("ict").with_landmarks, name="300w"
    ),
    "PositionMap.landmarks": lambda: _with(_face().dense_map.landmarks, name="300w"),
    "UvLayout.mask_at": lambda: _with(pe.load_layout("ict").mask_at, resolution=16),
    "UvLayout.weights": lambda: _with(pe.load_layout("ict").weights, resolution=16),
    "UvLayout.with_mask_file": lambda: _with(
        pe.load_layout("prnet").with_mask_file, path=good() / "mask.png"
    ),
    "load_layout": lambda: _with(pe.load_layout, name="ict"),
    "face_mesh": lambda: _with(pe.face_mesh, face=_face().dense_map, crop=_face().crop),
    "fit_pose": lambda: _with(
        pe.fit_pose, position_map=_face().dense_map.xyz, layout=_face().dense_map.layout,
        crop=_face().crop, iterations=4,
    ),
    "openness": lambda: _with(pe.openness, landmarks=_face().landmarks),
    "camera_matrix": lambda: _with(pe.camera_matrix, fx=90.0, fy=90.0, cx=32.0, cy=24.0),
    "metric_pose": lambda: _with(
        pe.metric_pose, face=_face(), intrinsics=pe.camera_matrix(90, 90, 32, 24),
        distortion=np.zeros(5), pupils_mm=63.0,
    ),
    "weak_perspective": lambda: _with(pe.weak_perspective, pose=_face()),
    "blendshapes": lambda: _with(pe.blendshapes, face=_face(), track=_track(), seconds=0.1),
    "ExpressionTrack": lambda: _with(
        lambda **v: pe.ExpressionTrack(**v).follow(_face(), 0.1), solver=None, smooth=True
    ),
    "ExpressionTrack.update": lambda: _with(_track().update, reading=_reading(), seconds=0.1),
    "ExpressionTrack.follow": lambda: _with(_track().follow, face=_face(), seconds=0.1),
    "FaceSmoother": lambda: _with(_filtered, settings=pe.Smoothing(), dense=True),
    "FaceSmoother.__call__": lambda: _with(pe.FaceSmoother(), face=_face(), timestamp=0.1),
    "Smoothing": lambda: _with(
        lambda **v: _filtered(settings=pe.Smoothing(**v)), **vars(pe.Smoothing())
    ),
    "GivenBoxes": lambda: _with(pe.GivenBoxes, boxes=_boxes()),
    "GivenBoxes.detect": lambda: _with(
        pe.GivenBoxes(_boxes()).detect, frame=_picture(), max_faces=1
    ),
    "MediaPipeDetector": lambda: _with(
        lambda **v: pe.MediaPipeDetector(**v).close(), min_score=0.5, thorough=True
    ),
    "MediaPipeDetector.detect": lambda: _with(_detector().detect, frame=_picture(), max_faces=1),
    "MediaPipeDetector.detect_turned": lambda: _with(
        _detector().detect_turned, frame=_picture(), degrees=[90]
    ),
    "FacePipeline": lambda: _with(
        _used, engine=_tiny(), detector=pe.GivenBoxes(_boxes()), passes=1, mirror=False,
        dense=True, workers=1, layout=None, reader=None,
    ),
    "FacePipeline.process": lambda: _with(
        _pipeline().process, frame=_picture(), boxes=None, max_faces=1, keep_all=False
    ),
    "FacePipeline.at_crops": lambda: _with(
        _pipeline().at_crops, frame=_picture(), crops=[_face().crop], scores=[1.0], passes=1
    ),
    "FacePipeline.look": lambda: _with(
        _pipeline().look, frame=_picture(), crops=[_face().crop], scores=[1.0], passes=1
    ),
    "FaceTracker": lambda: _with(
        _tracked, engine=_tiny(), detector=pe.GivenBoxes(_boxes()), max_faces=1, redetect=1.0,
        smooth=True, smoothing=None, dense=True, background=False, mirror=False, layout=None,
        reader=None, expressions=False,
    ),
    "FaceTracker.update": lambda: _with(_goes_on, image=_picture(), timestamp=0.0),
    "FaceTracker.steps": lambda: _with(_stepped, image=_picture(), timestamp=0.0),
    "track_together": lambda: _with(
        pe.track_together, trackers=[_tracker(), _tracker()], frames=[_picture(), _picture()]
    ),
    "FaceTracker.set_neutral": lambda: _with(_neutral, id=None),
    "Engine.infer": lambda: _with(_edge().infer, images=np.zeros((1, 3, 128, 128), np.float32)),
    "Engine.infer_all": lambda: _with(
        _edge().infer_all, images=np.zeros((1, 3, 128, 128), np.float32)
    ),
    "Engine.warm_up": lambda: _with(_edge().warm_up, batch=1),
    "EngineInfo": lambda: _with(pe.EngineInfo, **vars(_edge().info)),
    "load_engine": lambda: _with(
        lambda **v: pe.load_engine(**v).close(), model=good() / "n.onnx", threads=1,
        provider="cpu", verify=None,
    ),
    "read_image": lambda: _with(pe.read_image, path=data.PORTRAIT),
    "read_faces": lambda: _with(lambda path: list(pe.read_faces(path)), path=faces_file()),
    "depth_map": lambda: _with(pe.depth_map, face=_face(), size=(9, 9), width=None, height=None),
    "face_mask": lambda: _with(pe.face_mask, face=_face(), size=None, width=9, height=9),
    "uv_texture": lambda: _with(
        pe.uv_texture, face=_face(), image=_picture(), size=16, mirrored=False
    ),
    "draw_faces": lambda: _with(
        pe.draw_faces, image=_picture(), faces=[_face()], dense=True, label=True, scale=1, out=None
    ),
    "save_mesh": lambda: _with(
        pe.save_mesh, mesh=_face(), path="a.obj", image=_picture(), texture=None
    ),
}  # fmt: skip

#: What ``track_together`` alone calls.
INNER = {"FacePipeline.look_all", "FacePipeline.agrees"}
#: Plain records, which are checked where they are used, and protocols.
RECORDS = {"EngineInfo", "MetricPose", "Detector"}


def _metric() -> pe.MetricPose:
    return pe.metric_pose(_face(), pe.camera_matrix(90, 90, 32, 24))


def _laid_out(**values: Any) -> Any:
    layout = pe.UvLayout(**values)
    found = pe.PositionMap(_face().dense_map.xyz, layout)
    mesh = pe.face_mesh(found, _face().crop)
    return mesh, layout.mask_at(16), layout.landmarks(found.xyz), layout.weights(8)


def _neutral(**values: Any) -> None:
    with pe.FaceTracker(
        _tiny(), pe.GivenBoxes(_boxes()), background=False, expressions=True
    ) as tracker:
        tracker.update(_picture(), 0.0)
        tracker.set_neutral(**values)


def parameters() -> Iterator[tuple[str, str]]:
    """Every (name of a call, parameter) of what the package exports."""
    for name in pe.__all__:
        value = getattr(pe, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            if value is not pe.Engine and name not in RECORDS:
                yield from ((name, p) for p in inspect.signature(value).parameters)
            for method, found in vars(value).items():
                function = getattr(found, "__func__", found)
                if f"{name}.{method}" in INNER:
                    continue
                public = not method.startswith("_") or method == "__call__"
                if public and inspect.isfunction(function) and name not in RECORDS:
                    taken = [*inspect.signature(function).parameters][1:]
                    yield from ((f"{name}.{method}", p) for p in taken)
        elif inspect.isfunction(value):
            yield from ((name, p) for p in inspect.signature(value).parameters)


# What does not belong there.
class _Raises:
    def detect(self, frame: Any, max_faces: int = 1) -> Any:
        raise RuntimeError("no\ncamera")


class _Returns:
    def __init__(self, value: Any) -> None:
        self.value = value

    def detect(self, frame: Any, max_faces: int = 1) -> Any:
        return self.value


class _Hostile:
    """Has neither a name nor a length."""

    def __repr__(self) -> str:
        raise RuntimeError("no name")

    def __len__(self) -> int:
        raise RuntimeError("no length")


def _closed() -> pe.Engine:
    engine = _tiny()
    engine.close()
    return engine


def _special() -> dict[str, Callable[[], Any]]:
    import torch
    from PIL import Image as Pillow

    from tests.test_bad_input import TinyEngine, holed

    picture, face = _picture(), _face()
    nothing: Any = None
    return {
        "pillow": lambda: Pillow.fromarray(picture),
        "tensor": lambda: torch.zeros(48, 64, 3, dtype=torch.uint8),
        "tensor of floats": lambda: torch.zeros(68, 3),
        "on no device": lambda: torch.zeros(68, 3, device="meta"),
        "turned round": lambda: picture[::-1, ::-1],
        "strided": lambda: np.zeros((96, 128, 6), np.uint8)[::2, ::2, ::2],
        "fortran": lambda: np.asfortranarray(picture),
        "read-only": lambda: np.broadcast_to(np.uint8(7), (48, 64, 3)),
        "without end": lambda: np.broadcast_to(np.uint8(7), (10**6, 10**6, 3)),
        "points without end": lambda: np.broadcast_to(np.float32(7), (10**9, 3)),
        "big-endian": lambda: face.landmarks.astype(">f4"),
        "landmarks in longdouble": lambda: face.landmarks.astype(np.longdouble),
        "landmarks in half": lambda: face.landmarks.astype(np.float16),
        "masked": lambda: np.ma.masked_less(picture, 100),
        "matrix": lambda: np.asmatrix(face.landmarks),
        "objects": lambda: picture.astype(object),
        "structured": lambda: np.zeros(68, [("x", "f4"), ("y", "f4")]),
        "times": lambda: np.zeros((48, 64, 3), "M8[s]"),
        "nothing in it": lambda: np.zeros((0, 3), np.float32),
        "no dimensions": lambda: np.array(5.0),
        "batch": lambda: np.zeros((2, 48, 64, 3), np.uint8),
        "channels first": lambda: np.zeros((3, 48, 64), np.uint8),
        "16 bits": lambda: picture.astype(np.uint16),
        "frame": lambda: pe.Frame(picture),
        "frame of nothing": lambda: pe.Frame(nothing),
        "frame of floats": lambda: pe.Frame(picture.astype(np.float32)),
        "frame of bad time": lambda: pe.Frame(picture, timestamp=math.nan),
        "face": lambda: face,
        "faces": lambda: [face, face],
        "face without map": lambda: dataclasses.replace(face, position_map=None),
        "face with a hole": lambda: holed(face),
        "pose": lambda: face.pose,
        "crop": lambda: face.crop,
        "far crops": lambda: [pe.Crop(9e5, -9e5, 1e-3), pe.Crop(-9e5, 0, 9e5, 1e5)],
        "box": lambda: _boxes()[0],
        "no area": lambda: [pe.FaceBox(5, 5, 0, 0)],
        "far boxes": lambda: [pe.FaceBox(-9e5, 9e5, 1e6, 1e6), pe.FaceBox(0, 0, 1e-6, 1e-6)],
        "many boxes": lambda: _boxes() * 500,
        "map": lambda: face.dense_map,
        "mesh": lambda: pe.face_mesh(face),
        "layout": lambda: pe.load_layout("prnet"),
        "track": lambda: _track(),
        "closed engine": _closed,
        "engine of zeros": lambda: TinyEngine(np.zeros((3, 32, 32), np.float32)),
        "engine of nan": lambda: TinyEngine(np.full((3, 32, 32), np.nan, np.float32)),
        "engine of other maps": lambda: TinyEngine(np.zeros((3, 16, 32), np.float32)),
        "detector that raises": _Raises,
        "detector of nothing": lambda: _Returns(None),
        "detector of text": lambda: _Returns("boxes"),
        "detector of tuples": lambda: _Returns([(1, 2, 3, 4)]),
        "detector of arrays": lambda: _Returns(np.zeros((2, 4))),
        "detector of none": lambda: _Returns([]),
        "class": lambda: pe.FaceBox,
        "function": lambda: len,
        "generator": lambda: (b for b in _boxes()),
        "bytes": lambda: b"abc",
        "memory": lambda: memoryview(b"abc"),
        "set": lambda: {1, 2},
        "complex": lambda: 1j,
        "hostile": _Hostile,
        "numpy bool": lambda: np.True_,
        "numpy nan": lambda: np.float32(np.nan),
        "numpy int": lambda: np.int64(3),
        "path": lambda: Path("none.onnx"),
        "path of a folder": lambda: Path("."),
        "device": lambda: "/dev/zero",
        "null device": lambda: "/dev/null",
        "long name": lambda: "x" * 300 + ".obj",
        "not UTF-8": lambda: "\udcff.obj",
        "NUL": lambda: "a\0b.obj",
        "percent": lambda: "%d.obj",
        "in a file": lambda: f"{data.PORTRAIT}/a.obj",
        "picture file": lambda: data.PORTRAIT,
    }


def _values() -> st.SearchStrategy[Any]:
    shapes = st.lists(st.integers(0, 70), max_size=4).map(tuple)
    types = st.sampled_from(["u1", "u2", "i4", "f2", "f4", "f8", "c8", "O", "U2", "?"])

    def filled(shape: tuple[int, ...], kind: str, value: float) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            while np.prod(shape, dtype=float) > 20_000:
                shape = shape[:-1]
            return np.full(shape, value).astype(kind)

    fills = st.sampled_from([0, 1, 0.5, np.nan, np.inf, 1e30, -1])
    named = st.sampled_from([(48, 64, 3), (68, 3), (68, 2), (3, 32, 32), (3, 3), (3,), (52,),
                             (1, 3, 128, 128), (68,), (1, 4)])  # fmt: skip
    arrays = st.builds(filled, st.one_of(shapes, named, named), types, fills)
    numbers = st.one_of(st.floats(), st.integers(-(10**20), 10**20), st.integers(-3, 300))
    special = st.sampled_from(sorted(_special())).map(lambda name: ("special", name))
    plain = st.one_of(st.sampled_from(ODD), st.sampled_from([(0, 1), (-1, 2), (math.nan, 1)]))
    return st.one_of(special, special, plain, arrays, numbers, st.text(max_size=5))


def _cases() -> st.SearchStrategy[tuple[str, str, Any]]:
    every = sorted({*parameters()})
    return st.sampled_from(every).flatmap(lambda c: st.tuples(*map(st.just, c), _values()))


#: What may hold numbers that are not finite: networks' outputs and maps, as they say, and points
#: that are moved one by one.
_ANY_NUMBERS = {
    "Crop.to_crop", "Crop.to_frame",
    "Engine.infer", "Engine.infer_all", "PositionMap", "PositionMap.resampled", "Pose", "fit_pose",
    "UvLayout.landmarks", "PositionMap.landmarks", "ExpressionTrack.update", "depth_map",
}  # fmt: skip


def _check(case: tuple[str, str, Any], folder: Path) -> None:
    name, parameter, value = case
    call, arguments = CALLS[name]()
    assert parameter in arguments, "a parameter without a good value"
    if isinstance(value, tuple) and value and value[0] == "special":
        value = _special()[value[1]]()
    if parameter == "path" and isinstance(value, (int, str)) and str(value).startswith("/"):
        # A test writes nowhere but into its folder.
        value = "none"
    with np.errstate(all="ignore"):
        found = call(**{**arguments, parameter: value})
        # An unchanged call still works, whatever was cached.
        again, good_arguments = CALLS[name]()
        again(**good_arguments)
    if name not in _ANY_NUMBERS:
        assert _finite(found), "a result that is not finite"


def _finite(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_finite(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, (list, tuple)) else True


TARGETS = [Target("Python API", _cases, _check, 200)]
