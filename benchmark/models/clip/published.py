"""Published open_clip models, or weights in a file, as encoders."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch

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
