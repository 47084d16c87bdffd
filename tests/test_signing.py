"""Signed engines: what was signed is loaded, and nothing else."""

import sys

import pytest

from posgan_edge import load_engine
from posgan_edge.errors import BadInput
from tests.helpers.data import PORTRAIT, PORTRAIT_BOX
from tests.helpers.networks import write_convolution

pytest.importorskip("cryptography")
BOX = ",".join(map(str, PORTRAIT_BOX))


def keys(folder, name):
    """(private, public) PEM files of a new Ed25519 key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def signed(run, tmp_path):
    """(engine, public key) of a small network."""
    private, public = keys(tmp_path, "ours")
    path = tmp_path / "e.onnx"
    metadata = [("layout", "ict"), ("name", "n")]
    source = write_convolution(tmp_path / "source.onnx", metadata=metadata)
    code, _, err = run("build-engine", "--model", source, "--sign", private, "--output", path)
    assert code == 0, err
    return path, public


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_signed_engine_is_loaded(signed, provider):
    path, public = signed
    if provider == "openvino":
        pytest.importorskip("openvino")
    with load_engine(path, provider=provider, verify=public) as engine:
        assert engine.info.name == "n"


def _append(path):
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: _append(p), "is not the file that its manifest describes"),
        (lambda p: _append(p.with_name("e.onnx.json")), "is not signed by the owner of"),
        (
            lambda p: p.with_name("e.onnx.json").unlink(),
            r"is not signed: there is no e\.onnx\.json",
        ),
        (lambda p: p.with_name("e.onnx.json.sig").unlink(), r"there is no e\.onnx\.json\.sig"),
        (lambda p: p.with_name("e.onnx.json.sig").write_text("AAAA"), "is not signed by the owner"),
        (lambda p: p.with_name("e.onnx.json.sig").write_bytes(b"\xff\x00"), "signed|signature"),
    ],
)
def test_what_was_changed_is_refused(signed, change, message):
    path, public = signed
    change(path)
    with pytest.raises(BadInput, match=message) as caught:
        load_engine(path, verify=public)
    assert "\n" not in str(caught.value)


def test_another_key_and_an_engine_without_a_signature_are_refused(run, signed, tmp_path):
    path, public = signed
    _, other = keys(tmp_path, "other")
    with pytest.raises(BadInput, match="is not signed by the owner of"):
        load_engine(path, verify=other)
    for model in ("edge", PORTRAIT.with_name("edge.safetensors")):
        with pytest.raises(BadInput, match="is not signed: there is no"):
            load_engine(model, verify=public)
    code, _, err = run("run", PORTRAIT, "--box", BOX, "--no-window", "--model", path,
                       "--verify", other)  # fmt: skip
    assert (code, "is not signed by the owner of" in err) == (4, True), err


def test_the_manifest_that_was_signed_is_the_one_that_is_used(signed, monkeypatch):
    """A manifest that is exchanged after its signature was checked has no effect."""
    from posgan_edge.engines import signing

    path, public = signed
    check = signing.signed_manifest

    def exchange(engine, key):
        found = check(engine, key)
        path.with_name("e.onnx.json").write_text("{}")
        return found

    monkeypatch.setattr(signing, "signed_manifest", exchange)
    with load_engine(path, verify=public) as engine:
        assert engine.info.name == "n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a private key in PEM without a password"),
        (b"\x00" * 100, "not a private key in PEM without a password"),
        ("public", "not a private key in PEM without a password"),
        ("rsa", "not an Ed25519 key"),
        (None, "absent.pem"),
    ],
)
def test_other_keys_are_refused_before_anything_is_built(run, tmp_path, content, message):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import rsa

    _, public = keys(tmp_path, "ours")
    key = tmp_path / ("absent.pem" if content is None else "key.pem")
    if content == "public":
        content = public.read_bytes()
    if content == "rsa":
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        content = made.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    if content is not None:
        key.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    code, _, err = run("build-engine", "--sign", key, "--output", tmp_path / "e.onnx")
    assert (code, message in err, "Traceback" in err) == (4, True, False), err
    assert sorted(tmp_path.iterdir()) == before


def test_without_cryptography_one_line_says_what_to_install(run, tmp_path, monkeypatch):
    private, public = keys(tmp_path, "ours")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    for arguments in (
        ["build-engine", "--sign", private, "--output", tmp_path / "e.onnx"],
        ["run", PORTRAIT, "--box", BOX, "--no-window", "--verify", public],
    ):
        code, _, err = run(*arguments)
        assert code == 3, err
        assert "pip install 'posgan-edge[sign]'" in err
