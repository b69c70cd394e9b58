"""Class names and prompt templates as they were published: ImageNet's by open_clip, the others' by clip_benchmark.

clip_benchmark is read as data files: none of its modules is imported. ImageNet's list of wnids is timm's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.resources import files

from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from timm.data import ImageNetInfo

IMAGENET = "imagenet1k"
"""Data sets without prompts of their own take ImageNet's, as in clip_benchmark."""

Templates = list[Callable[[str], str]]


def class_names(data_set: str) -> list[str]:
    """Names by label, for a data set of clip_benchmark's. Raises KeyError for one without names."""
    if data_set == IMAGENET:
        return list(IMAGENET_CLASSNAMES)
    return list(_table("en_classnames.json")[data_set])


def templates(data_set: str) -> Templates:
    """Class name -> prompt, as many as were published. Raises KeyError for a data set without."""
    if data_set == IMAGENET:
        return list(OPENAI_IMAGENET_TEMPLATES)
    return from_texts(_table("en_zeroshot_classification_templates.json")[data_set])


def data_sets_with_templates() -> list[str]:
    return sorted(name for name, texts in _table("en_zeroshot_classification_templates.json").items() if texts)


def from_texts(texts: Sequence[str]) -> Templates:
    """Templates from texts in which ``{c}`` stands for the name of the class."""
    return [partial(_filled, text) for text in texts]


@lru_cache(maxsize=1)
def wnids() -> list[str]:
    """ImageNet-1k's, by label; sorted."""
    return list(ImageNetInfo("imagenet-1k").label_names())


@lru_cache(maxsize=4)
def wnids_of(subset: str) -> list[str]:
    """Of ``imagenet_a`` or ``imagenet_r``: 200 of ImageNet-1k's, sorted."""
    text = (files("timm") / "data" / "_info" / f"{subset}_synsets.txt").read_text(encoding="utf-8")
    return text.split()


def names_of_wnids(chosen: Sequence[str]) -> list[str]:
    """open_clip's names of classes of ImageNet-1k. Raises KeyError for another wnid."""
    by_wnid = dict(zip(wnids(), IMAGENET_CLASSNAMES, strict=True))
    return [by_wnid[wnid] for wnid in chosen]


def plain_name(name: str) -> str:
    """For comparing names of classes: small letters, words parted by one space."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def known_names(folders: Sequence[str]) -> dict[str, set[str]]:
    """What the class of each folder may be called: as the folder, or as ImageNet's class where it is a wnid."""
    by_wnid = dict(zip(wnids(), IMAGENET_CLASSNAMES, strict=True))
    return {folder: {plain_name(folder), plain_name(by_wnid.get(folder, folder))} for folder in folders}


def _filled(text: str, name: str) -> str:
    return text.replace("{c}", name)


@lru_cache(maxsize=2)
def _table(name: str) -> dict[str, list[str]]:
    found = json.loads((files("clip_benchmark") / "datasets" / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found
