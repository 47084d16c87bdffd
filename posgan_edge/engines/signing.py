"""Signed manifests: an Ed25519 signature beside a manifest says whose engine it is."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from posgan_edge.engines.manifest import Manifest, manifest_of, manifest_path
from posgan_edge.errors import BadInput, missing, one_line
from posgan_edge.files import read_limited, replaced

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


def sign_manifest(engine: str | Path, key: Any) -> None:
    """Signs the manifest beside an engine, which holds the engine's SHA-256."""
    signature = key.sign(manifest_path(engine).read_bytes())
    with replaced(signature_path(engine)) as temporary:
        temporary.write_text(base64.b64encode(signature).decode() + "\n")


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
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise missing("cryptography", "signing and checking signatures", "sign") from error
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
