"""Signed manifests: an Ed25519 signature beside a manifest says whose engine it is."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from posgan_edge.documents import text_of
from posgan_edge.engines.manifest import Manifest, manifest_of, manifest_path
from posgan_edge.errors import BadInput, needing, one_line
from posgan_edge.files import read_limited, replaced_together

_LIMIT = 1 << 20  # bytes of a key, a signature or a manifest


def signature_path(engine: str | Path) -> Path:
    """``X.engine`` -> ``X.engine.json.sig``."""
    path = manifest_path(engine)
    return path.with_name(path.name + ".sig")


def load_private_key(path: str | Path) -> Any:
    """An Ed25519 private key from an unencrypted PEM file. Raises BadInput, and MissingRuntime
    without ``cryptography``."""
    kind = _keys().Ed25519PrivateKey
    return _checked_key(path, "private", kind, lambda s, data: s.load_pem_private_key(data, None))


def save_engine(engine: str | Path, data: bytes, manifest: Manifest, key: Any = None) -> None:
    """Writes an engine file with its manifest, and with a signature of it by a private key.

    All are written before any old file is replaced. A signature of an earlier manifest is removed.
    Raises BadInput if they cannot be written.
    """
    text = text_of(manifest, manifest_path(engine)).encode()
    paths = [engine, manifest_path(engine), signature_path(engine)]
    with replaced_together(paths) as (file, beside, signature):
        file.write_bytes(data)
        beside.write_bytes(text)
        if key is not None:
            signature.write_text(base64.b64encode(key.sign(text)).decode() + "\n")


def signed_manifest(engine: str | Path, public_key: str | Path) -> Manifest:
    """The manifest of an engine, read once and signed by the owner of the key (a PEM file).

    Raises BadInput if there is no signature, or it is not of this manifest by this key.
    """
    kind = _keys().Ed25519PublicKey
    from cryptography.exceptions import InvalidSignature

    key = _checked_key(public_key, "public", kind, lambda s, data: s.load_pem_public_key(data))
    path, signature = manifest_path(engine), signature_path(engine)
    for part in (path, signature):
        if not os.path.isfile(part):
            raise BadInput(f"{engine}: is not signed: there is no {part.name}")
    data = read_limited(path, _LIMIT)
    try:
        key.verify(base64.b64decode(read_limited(signature, _LIMIT), validate=False), data)
        content = json.loads(data)
    except InvalidSignature as error:
        raise BadInput(
            f"{engine}: its manifest is not signed by the owner of {public_key}, or was changed"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{signature}: not a signature: {one_line(error)}") from error
    return manifest_of(content, path)


def _keys() -> Any:
    with needing("cryptography", "signing and checking signatures", "sign"):
        from cryptography.hazmat.primitives.asymmetric import ed25519
    return ed25519


def _checked_key(path: str | Path, what: str, kind: type, load: Any) -> Any:
    from cryptography.hazmat.primitives import serialization

    data = read_limited(path, _LIMIT)
    try:
        key = load(serialization, data)
    except Exception as error:  # each fault of a key has a class of its own
        raise BadInput(
            f"{path}: not a {what} key in PEM without a password: {one_line(error)}"
        ) from error
    if not isinstance(key, kind):
        raise BadInput(f"{path}: not an Ed25519 key")
    return key
