"""Targets: networks, weights, pictures and keys."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from hypothesis import strategies as st

from posgan_edge.errors import BadInput
from tests.fuzz.files import world, written
from tests.fuzz.mutations import ODD, changed, damaged
from tests.fuzz.targets import Target
from tests.helpers import data


# Weights.
@cache
def _generator() -> Any:
    from posgan_edge.models.registry import build_generator

    return build_generator("edge", modes=2, map_size=8)


@cache
def _checkpoint() -> dict[str, Any]:
    from posgan_edge.models.checkpoints import generator_state

    return {"generator": generator_state(_generator())}


def _as_pth(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@st.composite
def _weights(draw: st.DrawFn, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Weights of which one is missing, of another type or shape, or not finite."""
    out: dict[str, Any] = dict(weights)
    name = draw(st.sampled_from(sorted(out)))
    value = out[name]
    change = draw(st.sampled_from(["none", "nan", "half", "int", "flat", "odd", "name", "complex"]))
    if change == "none":
        del out[name]
    elif change == "name":
        out["x"] = out.pop(name)
    elif change == "odd":
        out[name] = draw(st.sampled_from(ODD))
    else:
        with_nan = value.float() * float("nan")
        out[name] = {
            "nan": with_nan, "half": value.half(), "int": value.to(torch.int8),
            "flat": value.reshape(-1)[:1], "complex": value.to(torch.complex64),
        }[change]  # fmt: skip
    return out


def _checkpoints() -> st.SearchStrategy[bytes]:
    content = _checkpoint()["generator"]
    other = changed({"name": content["name"], "config": content["config"]})

    def joined(found: Any) -> Any:
        weights = {"weights": content["weights"]}
        return {"generator": {**found, **weights} if isinstance(found, dict) else found}

    return st.one_of(
        other.map(joined).map(_as_pth),
        _weights(content["weights"]).map(lambda w: {"generator": {**content, "weights": w}})
        .map(_as_pth),
        st.sampled_from(ODD).map(_as_pth), damaged(_as_pth(_checkpoint())),
    )  # fmt: skip


def _loads_weights(path: Path) -> None:
    from posgan_edge.models.checkpoints import load_generator

    with torch.inference_mode():
        maps = load_generator(path)(torch.zeros(1, 3, 128, 128))
    assert bool(torch.isfinite(maps).all()), "maps"


def _pth(case: bytes, folder: Path) -> None:
    _loads_weights(written(folder, "w.pth", case))


def _safetensors() -> st.SearchStrategy[bytes]:
    from posgan_edge.models.checkpoints import save_safetensors

    path = world() / "w.safetensors"
    if not path.exists():
        save_safetensors(_generator(), path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    config = json.loads(header["__metadata__"]["posgan_edge.config"])

    def joined(head: Any) -> bytes:
        text = json.dumps(head).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    def configured(value: Any) -> Any:
        return {
            **header,
            "__metadata__": {
                **header["__metadata__"], "posgan_edge.config": json.dumps(value),
            },
        }  # fmt: skip

    return st.one_of(
        changed(header).map(joined), changed(config).map(configured).map(joined), damaged(whole)
    )


def _safetensors_file(case: bytes, folder: Path) -> None:
    _loads_weights(written(folder, "w.safetensors", case))


# Networks.
def _networks() -> st.SearchStrategy[bytes]:
    whole = (world() / "n.onnx").read_bytes()

    @st.composite
    def model(draw: st.DrawFn) -> bytes:
        proto = onnx.load_model_from_string(whole)
        value = draw(st.sampled_from([*proto.graph.input, *proto.graph.output]))
        kind = draw(st.sampled_from(["dim", "type", "name", "op", "opset", "layout", "rank", "ir"]))
        tensor = value.type.tensor_type
        if kind == "dim":
            size = draw(st.sampled_from([0, -1, 1, 2, 8, 17, 10**6, 2**40]))
            tensor.shape.dim[draw(st.integers(0, 3))].dim_value = size
        elif kind == "type":
            tensor.elem_type = draw(st.integers(0, 25))
        elif kind == "name":
            value.name = draw(st.sampled_from(["", "x", "image", "position_map", "é\0"]))
        elif kind == "op":
            node = proto.graph.node[0]
            node.op_type = draw(st.sampled_from(["Identity", "Log", "Shape", "Loop", "Foo"]))
            node.domain = draw(st.sampled_from(["", "com.microsoft", "foo"]))
            del node.input[1:]
            del node.attribute[:]
        elif kind == "opset":
            proto.opset_import[0].version = draw(st.sampled_from([-1, 0, 1, 7, 99, 2**40]))
        elif kind == "layout":
            proto.metadata_props[0].value = draw(st.sampled_from(["", "bfm", "prnet", "../ict"]))
        elif kind == "rank":
            del tensor.shape.dim[draw(st.integers(0, 3)) :]
        else:
            proto.ir_version = draw(st.sampled_from([-1, 0, 1, 3, 50, 2**40]))
        return bytes(proto.SerializeToString())

    return st.one_of(model(), damaged(whole))


def _network(case: bytes, folder: Path) -> None:
    from posgan_edge.engines.loader import load_engine

    with load_engine(written(folder, "n.onnx", case), threads=1) as engine:
        size = engine.info.input_size
        maps = engine.infer(np.full((2, 3, size, size), 0.5, np.float32))
        assert maps.shape == (2, 3, engine.info.map_size, engine.info.map_size), maps.shape


# Pictures.
@cache
def _pictures() -> list[bytes]:
    picture = cv2.resize(cv2.imread(str(data.PORTRAIT)), (96, 96))
    coded = [cv2.imencode(s, picture)[1].tobytes()
             for s in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".jp2")]  # fmt: skip
    deep = cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes()
    return [*coded, deep, cv2.imencode(".tiff", picture.astype(np.float32) / 255)[1].tobytes()]


def _picture(case: bytes, folder: Path) -> None:
    from posgan_edge.faces.pipeline import FacePipeline
    from posgan_edge.geometry.values import FaceBox
    from posgan_edge.images import read_image

    image = read_image(written(folder, "a.jpg", case))
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3, image.shape
    if max(image.shape) < 5000:
        for face in FacePipeline(_edge(), passes=1).process(image, [FaceBox(30, 20, 30, 30)]):
            assert np.isfinite(face.landmarks).all(), "landmarks"


@cache
def _edge() -> Any:
    from posgan_edge.engines.loader import load_engine

    return load_engine("edge", threads=1)


# Keys.
def _keys() -> st.SearchStrategy[bytes]:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )  # fmt: skip
    return st.one_of(damaged(public), damaged(private))


def _key(case: bytes, folder: Path) -> None:
    from posgan_edge.engines.signing import load_private_key, signed_manifest

    path = written(folder, "k.pem", case)
    engine = world() / "n.onnx"
    try:
        signed_manifest(engine, path)
    except BadInput:
        load_private_key(path)
    else:
        raise AssertionError("an engine that nobody signed")


TARGETS = [
    Target("checkpoint .pth", _checkpoints, _pth),
    Target("checkpoint .safetensors", _safetensors, _safetensors_file),
    Target("ONNX network", _networks, _network),
    Target("picture", lambda: st.sampled_from(_pictures()).flatmap(damaged), _picture, 60),
    Target("signing key", _keys, _key),
]
