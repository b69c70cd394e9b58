"""Published open_clip models, or weights in a file or folder, as encoders: built as they were trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from benchmark.config.feature_pass import WHOLE_MODELS
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.models.clip.options import foreign_tokenizer
from benchmark.options import ConfigError, did_you_mean, plain

logger = logging.getLogger(__name__)

QUICK = "-quickgelu"
"""Ending of open_clip's names of the same architecture with QuickGELU in place of GELU."""
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Published:
    """Weights and the name under which open_clip builds the network that they were trained in."""

    model: str
    """A name of open_clip's, or ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``, which hold everything."""
    pretrained: str = ""
    """A tag or a file; "" for a folder or a hub."""
    as_tag: str = ""
    """The tag that a file's weights are those of: its activation and preprocessing hold."""

    @property
    def label(self) -> str:
        return Path(self.model).name

    @property
    def file(self) -> Path | None:
        """The file of weights that was named; None for a tag, a folder or a hub."""
        return Path(self.pretrained) if Path(self.pretrained).is_file() else None

    def options(self) -> dict[str, str]:
        """What was said, as a configuration keeps it."""
        return {key: value for key, value in asdict(self).items() if value}


def published(model: str, pretrained: str, where: str, as_tag: str = "", with_text: bool = True) -> Published:
    """Check a model and its weights, and find the name whose activation is theirs; reads no weights.

    ``ViT-B-32`` with ``openai`` is ``ViT-B-32-quickgelu``. Raises ConfigError that opens with ``where`` unless
    open_clip knows the model, the weights are a tag of it or a file, and the tokenizer is here if there are texts.
    """
    if model.startswith(WHOLE_MODELS):
        _check_whole(model, pretrained or as_tag, where)
        found = Published(model)
    else:
        known = open_clip.list_models()
        if model not in known:
            raise ConfigError(f"{where}: unknown open_clip model '{model}'{did_you_mean(model, known)}")
        tags = open_clip.list_pretrained_tags_by_model(model)
        listed = f"(tags: {', '.join(tags)})" if tags else "(it has no tags)"
        if pretrained not in tags and not Path(pretrained).is_file():
            raise ConfigError(f"{where}: '{pretrained}' is neither a file nor a tag of {model} {listed}")
        if as_tag and (pretrained in tags or as_tag not in tags):
            raise ConfigError(f"{where}: as_tag '{as_tag}': say it of a file, and name a tag of {model} {listed}")
        found = Published(with_activation(model, as_tag or pretrained), pretrained, as_tag)
    if with_text:
        tokenizer_of(found.model, where)
    return found


def _check_whole(model: str, others: str, where: str) -> None:
    if others:
        raise ConfigError(f"{where}: {model} holds weights and preprocessing; leave '{others}' out")
    folder = Path(model.partition(":")[2])
    if model.startswith("local-dir:") and not (folder / "open_clip_config.json").is_file():
        raise ConfigError(f"{where}: {folder} holds no open_clip_config.json, as a model of the hub does")


def with_activation(model: str, tag: str) -> str:
    """The name of open_clip's for the model with the activation that the tag's weights were trained with.

    open_clip itself builds what the model's file says, and warns. Where that says QuickGELU and the tag nothing
    (one pair), the file stands: it was written for these weights.
    """
    wants_quick = (open_clip.get_pretrained_cfg(model, tag) or {}).get("quick_gelu", False)
    if not wants_quick or open_clip.get_model_config(model).get("quick_gelu", False):
        return model
    assert tag in open_clip.list_pretrained_tags_by_model(model + QUICK), (model, tag)
    return model + QUICK


def open_clip_encoder(
    what: Published, device: torch.device, batch_size: int, with_text: bool = True
) -> ClipEncoder:
    """The model with its weights, activation, preprocessing and, for texts, its tokenizer.

    Raises ConfigError if they cannot be had, saying where to put the file.
    """
    cfg = open_clip.get_pretrained_cfg(what.model, what.as_tag) if what.as_tag else {}
    if what.file and not what.as_tag:
        _warn_of_tags(what)
    try:
        # open_clip reads files with weights_only; a tag is fetched from a hub
        built, _, transform = open_clip.create_model_and_transforms(
            what.model,
            pretrained=what.pretrained or None,
            device=device,
            require_pretrained=True,
            **{f"image_{key}": cfg[key] for key in PREPROCESSING if key in cfg},
        )
    except Exception as error:  # every hub and loader has errors of its own
        raise ConfigError(
            f"the weights '{what.pretrained or what.model}' of {what.label} cannot be loaded"
            f" ({type(error).__name__}{''.join(f': {line}' for line in str(error).splitlines()[:1])})."
            f" {_by_hand(what)}"
        ) from error
    assert callable(transform)
    tokenizer = tokenizer_of(what.model, what.model) if with_text else no_texts
    return ClipEncoder(built, transform, tokenizer, batch_size)


def tokenizer_of(model: str, where: str) -> Callable[[list[str]], Tensor]:
    """The model's own. Raises ConfigError, opening with ``where``, if its files are not on this machine."""
    source = ""
    try:
        source = foreign_tokenizer(open_clip.get_model_config(model))
        # without local_files_only a machine without internet tries for minutes
        tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(
            model, **({"local_files_only": True} if source else {})
        )
    except Exception as error:  # transformers may be missing, or a file of the tokenizer
        raise ConfigError(
            f"{where}: the texts of {model} need the tokenizer {source or 'of its repository'}, which is not on"
            f" this machine ({type(error).__name__}): run  hf download {source} --include '*token*' '*.model'"
            " '*.json'  where there is internet, into the HF_HOME of the jobs; tasks on images alone need none,"
            " and models with CLIP's own tokenizer (ViT-*, RN50, ConvNeXt) need no file"
        ) from error
    return tokenizer


def no_texts(texts: list[str]) -> Tensor:
    """Stands for the tokenizer where only images are encoded."""
    raise AssertionError(f"no tokenizer was asked for, and here are {len(texts)} texts")


def facts_of(encoder: ClipEncoder) -> dict[str, Any]:
    """How the encoder was built, for a record: activations, preprocessing, tokenizer."""
    model = encoder.model
    told = dict(model.visual.preprocess_cfg)
    kinds = {type(module).__name__ for module in model.modules()}
    tokenizer = encoder.tokenizer
    inner = getattr(getattr(tokenizer, "tokenizer", None), "name_or_path", "")
    return plain(
        {
            "activations": sorted(kind for kind in kinds if "GELU" in kind),
            "image_size": told["size"],
            **{key: told[key] for key in PREPROCESSING},
            "tokenizer": " ".join([type(tokenizer).__name__, inner]).strip()
            if tokenizer is not no_texts
            else None,
        }
    )


def _warn_of_tags(what: Published) -> None:
    """A file does not say what it was trained with."""
    names = [what.model.removesuffix(QUICK), what.model]
    tags = {tag: (name, open_clip.get_pretrained_cfg(name, tag)) for name in names for tag in _tags(name)}
    usual = asdict(open_clip.transform.PreprocessCfg())
    others = [
        tag
        for tag, (name, cfg) in tags.items()
        if with_activation(name, tag) != what.model
        or any(plain(cfg[key]) != plain(usual[key]) for key in PREPROCESSING if key in cfg)
    ]
    if others:
        logger.warning(
            "%s: read as %s with open_clip's usual preprocessing; if these are the weights of %s, say so: as_tag"
            " (on the command line --as-tag), for activation or preprocessing differ",
            what.pretrained,
            what.model,
            " or ".join(others),
        )


def _tags(model: str) -> list[str]:
    return list(open_clip.list_pretrained_tags_by_model(model))


def check_at_hand(what: Published) -> None:
    """Raise ConfigError unless the weights lie on this machine: a node may have no way to fetch them."""
    if what.file or what.model.startswith("local-dir:"):
        return
    known: dict[str, Any] = {"hf_hub": f"{what.model.partition(':')[2]}/"}
    if not what.model.startswith("hf-hub:"):
        known = open_clip.get_pretrained_cfg(what.model, what.pretrained)
    hub, _, name = (known.get("hf_hub") or "").rpartition("/")
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    if hub:
        is_there = any(isinstance(try_to_load_from_cache(hub, file), str) for file in names)
    else:
        is_there = (Path.home() / ".cache" / "clip" / Path(known.get("url") or "").name).is_file()
    if not is_there:
        raise ConfigError(
            f"the weights of {' '.join(what.options().values())} are not on this machine: the pass fetches them"
            f" when it begins. {_by_hand(what)}"
        )


def _by_hand(what: Published) -> str:
    """Which file to fetch where there is access to the internet, and where to put it."""
    if what.file:
        return f"The file must hold a state dict of {what.model}, as open_clip reads it"
    if what.model.startswith("local-dir:"):
        return "The folder must hold open_clip_config.json and weights that fit it, as a model of the hub does"
    if what.model.startswith("hf-hub:"):
        name = what.model.partition(":")[2]
        return (
            f"Without access to the internet, run  hf download {name} --local-dir FOLDER  elsewhere, put FOLDER"
            " where the jobs can read it, and name it: local-dir:/path/to/FOLDER"
        )
    known = open_clip.get_pretrained_cfg(what.model, what.pretrained)
    hub, _, name = (known.get("hf_hub") or "").rpartition("/")
    url = (
        f"https://huggingface.co/{hub}/resolve/main/{name or 'open_clip_model.safetensors'}"
        if hub
        else known["url"]
    )
    file = f"/path/to/{url.rpartition('/')[2]}"
    return (
        f"Without access to the internet, fetch {url} elsewhere, put it where the jobs can read it, and name it"
        f" with its tag, whose activation and preprocessing it needs: features: {{open_clip: {what.model},"
        f" pretrained: {file}, as_tag: {what.pretrained}}}, or open_clip:{what.model}:{file} --as-tag"
        f" {what.pretrained}"
    )
