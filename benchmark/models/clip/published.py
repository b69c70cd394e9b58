"""Published open_clip models, or weights in a file, as encoders."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache

from benchmark.models.clip.encoder import ClipEncoder
from benchmark.options import ConfigError, did_you_mean


def check_open_clip(model: str, pretrained: str, where: str) -> None:
    """Raise ConfigError unless open_clip knows the model, and the weights are a tag of it or a file."""
    known = open_clip.list_models()
    if model not in known:
        raise ConfigError(f"{where}: unknown open_clip model '{model}'{did_you_mean(model, known)}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags and not Path(pretrained).exists():
        listed = f"(tags: {', '.join(tags)})" if tags else "(it has no tags)"
        raise ConfigError(f"{where}: '{pretrained}' is neither a file nor a tag of {model} {listed}")


def open_clip_encoder(model: str, pretrained: str, device: torch.device, batch_size: int) -> ClipEncoder:
    """A model of open_clip's with published weights, or with those of a file.

    Raises ConfigError if they cannot be had, saying where to put the file.
    """
    try:
        # open_clip reads files with weights_only; a tag is fetched from a hub
        built, _, transform = open_clip.create_model_and_transforms(model, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # every hub and loader has errors of its own
        raise ConfigError(
            f"the weights '{pretrained}' of {model} cannot be loaded ({type(error).__name__}"
            f"{''.join(f': {line}' for line in str(error).splitlines()[:1])}). {_by_hand(model, pretrained)}"
        ) from error
    assert callable(transform)
    return ClipEncoder(built, transform, tokenizer, batch_size)


def check_at_hand(model: str, pretrained: str) -> None:
    """Raise ConfigError unless the weights lie on this machine: a node may have no way to fetch them."""
    if Path(pretrained).is_file():
        return
    known = open_clip.get_pretrained_cfg(model, pretrained)
    hub, _, name = (known.get("hf_hub") or "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    if hub:
        is_there = any(isinstance(try_to_load_from_cache(hub, file), str) for file in names)
    else:
        is_there = (Path.home() / ".cache" / "clip" / Path(known.get("url") or "").name).is_file()
    if not is_there:
        raise ConfigError(
            f"the weights '{pretrained}' of {model} are not on this machine: the pass fetches them when it begins."
            f" {_by_hand(model, pretrained)}"
        )


def _by_hand(model: str, pretrained: str) -> str:
    """Which file to fetch where there is access to the internet, and where to put it."""
    if Path(pretrained).is_file():
        return f"The file must hold a state dict of {model}, as open_clip reads it"
    known = open_clip.get_pretrained_cfg(model, pretrained)
    hub, _, name = (known.get("hf_hub") or "").rpartition("/")
    url = (
        f"https://huggingface.co/{hub}/resolve/main/{name or 'open_clip_model.safetensors'}"
        if hub
        else known["url"]
    )
    return (
        f"Without access to the internet, fetch {url} elsewhere, put it where the jobs can read it, and name it:"
        f" features: {{open_clip: {model}, pretrained: /path/to/{url.rpartition('/')[2]}}}"
    )
