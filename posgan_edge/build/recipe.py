"""Build recipes: the YAML files of ``export/``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from posgan_edge.documents import Document, load


class BuildRecipe(Document, frozen=True, rename="kebab"):
    """Options of an engine build; they have the names of ``posgan-edge build-engine``.

    None means not given. In the file, the words of a key are joined by ``-`` or ``_``.
    """

    kind: ClassVar[str] = "build recipe"

    model: str | None = None
    precision: Literal["fp32", "fp16", "int8"] | None = None
    target: Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"] | None = None
    calibration: str | None = None
    calibration_images: str | None = None
    calibration_names: str | None = None
    method: Literal["minmax", "percentile", "mse"] | None = None
    keep_fp16: str | None = None
    max_nme: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_pixels: Annotated[float, msgspec.Meta(ge=0)] | None = None
    batch: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    tuned_for: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    workspace: Annotated[int, msgspec.Meta(ge=0)] | None = None
    compute_capability: str | float | None = None
    timing_cache: str | None = None
    fp16_io: bool | None = None
    even_if_slower: bool | None = None


def load_build_recipe(path: str | Path) -> BuildRecipe:
    """Reads a recipe from a YAML file. Raises BadInput naming the file and the key."""

    def upgrade(content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {str(key).replace("_", "-"): value for key, value in content.items()}

    return load(path, BuildRecipe, upgrade)
