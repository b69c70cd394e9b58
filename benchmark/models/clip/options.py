"""The options of a CLIP model, checked by what open_clip's files say: importing open_clip takes seconds."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.config.run import Choice
from benchmark.options import ConfigError, check_keys, did_you_mean

KEYS = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale")
"""Of a custom configuration; the first three must be there."""


def resolve_model(choice: Choice, where: str) -> Choice:
    """Check an open_clip model's name, or a custom configuration under a name of its own.

    Raises ConfigError with the path of the mistake, and for a model that cannot be trained here: one that
    captions too (CoCa), or whose texts are not CLIP's token ids. Builds nothing.
    """
    if not choice.options:
        known = model_names()
        if choice.name not in known:
            raise ConfigError(
                f"{where}: unknown CLIP model '{choice.name}'{did_you_mean(choice.name, known)}"
                " (an open_clip name, or a name of your own with embed_dim, vision_cfg and text_cfg)"
            )
        _check_trainable(_config_of(choice.name), f"{where}: {choice.name}")
        return choice
    here = f"{where}.{choice.name}"
    check_keys(choice.options, KEYS, here, what="option")
    for key in KEYS[:3]:
        if key not in choice.options:
            raise ConfigError(
                f"{here}.{key}: missing; a custom CLIP model needs embed_dim, vision_cfg and text_cfg"
            )
    for key, cls in (("vision_cfg", "CLIPVisionCfg"), ("text_cfg", "CLIPTextCfg")):
        check_keys(choice.options[key], fields_of(cls), f"{here}.{key}", what="option")
    _check_trainable(choice.options, here)
    return choice


def foreign_tokenizer(config: Mapping[str, Any]) -> str:
    """The name on the hub of the tokenizer that a model's configuration asks for; "" for CLIP's own."""
    text = config["text_cfg"]
    return str(text.get("hf_tokenizer_name") or text.get("hf_model_name") or "")


def example_bytes(choice: Choice) -> int:
    """Bytes of a training example: a picture of uint8 [H, W, 3] and int64 token ids."""
    config = choice.options or _config_of(choice.name)
    size = config["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return 3 * int(height) * int(width) + 8 * int(config["text_cfg"].get("context_length", 77))


def _check_trainable(config: Mapping[str, Any], where: str) -> None:
    if _is_plain(config):
        return
    other = foreign_tokenizer(config)
    works = [name for name in model_names() if _is_plain(_config_of(name))]
    reason = (
        f"its texts need the tokenizer {other}" if other else "a CoCa model, whose captioning loss is not trained"
    )
    raise ConfigError(
        f"{where}: {reason}: models with CLIP's own tokenizer can be trained, {len(works)} of open_clip's"
        f" {len(model_names())}: {', '.join(works)}"
    )


def _is_plain(config: Mapping[str, Any]) -> bool:
    return not foreign_tokenizer(config) and "multimodal_cfg" not in config


@lru_cache(maxsize=256)
def _config_of(name: str) -> dict[str, Any]:
    """As ``open_clip.get_model_config(name)``."""
    found: dict[str, Any] = json.loads((_package() / "model_configs" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@lru_cache(maxsize=1)
def model_names() -> list[str]:
    """As ``open_clip.list_models()``, in no order of meaning."""
    return sorted(path.stem for path in (_package() / "model_configs").glob("*.json"))


@lru_cache(maxsize=2)
def fields_of(cls: str) -> list[str]:
    """Names of the fields of a dataclass of ``open_clip.model``, in order."""
    tree = ast.parse((_package() / "model.py").read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls)
    lines = (line.target for line in found.body if isinstance(line, ast.AnnAssign))
    return [target.id for target in lines if isinstance(target, ast.Name)]


def _package() -> Path:
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
