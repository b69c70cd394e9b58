"""Names as a paper prints them: of methods, tasks, data sets, metrics and configurations."""

from __future__ import annotations

import re

METHODS = {
    "full": "full data",
    "scan": "SCAN",
    "scan_random": "random control",
    "worse_than_chance": "worse than chance",
    "random_subset": "random subset",
    "random_dynamic": "random each epoch",
    "semdedup": "SemDeDup",
    "infobatch": "InfoBatch",
    "clip_score": "CLIP score",
    "neg_clip_loss": "negCLIPLoss",
    "clean_oracle": "oracle (sees planted truth)",
    "d2": "D2",
    "sas": "SAS",
    "ccs": "CCS",
    "rs2": "RS2",
    "seta": "SeTa",
    "repb": "RePB",
    "order_dp": "OrderDP",
    "dissect": "DISSect",
    "small_loss": "small loss",
    "big_loss": "big loss",
}
DATASETS = {
    "imagenet": "ImageNet",
    "imagenet_v2": "ImageNet-V2",
    "imagenet_a": "ImageNet-A",
    "imagenet_r": "ImageNet-R",
    "imagenet_sketch": "ImageNet-Sketch",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "coco": "COCO",
    "flickr30k": "Flickr30k",
    "fashion_mnist": "Fashion-MNIST",
    "clipart": "clip art",
}
POOLS = {"cc3m_plus": "CC3M+", "cc12m_plus": "CC12M+"}
METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "top1_16_shot": "top-1, 16 shots",
}
FRAMEWORKS = {"clip": "CLIP", "moco": "MoCo v3"}
_RECALL = re.compile(r"(image|text)_to_(image|text)_(r\d+|mrr|infonce)")
_OPTIONS = re.compile(r"(?P<name>[^(]*)\((?P<options>.*)\)", re.DOTALL)


def method_name(label: str) -> str:
    """``scan(cycle=7, schedule=all)`` -> ``SCAN, cycle 7, schedule all``."""
    found = _OPTIONS.fullmatch(label)
    name, options = (found["name"].strip(), found["options"]) if found else (label, "")
    if name not in METHODS and not found:
        return label.replace("_", " ")
    shown = METHODS.get(name, name.replace("_", " "))
    if name == "coreset" and options.startswith("runs="):
        source, _, options = options.removeprefix("runs=").partition(", ")
        made_by, _, rest = source.partition(" ")
        shown = f"coreset of {METHODS.get(made_by, made_by)} {rest}".rstrip()
    if not options or options == "sees planted truth":
        return shown
    told = re.sub(r"(?<=\w)=", " ", options).replace("_", " ")
    return f"{shown}, {told}"


def dataset_name(dataset: str) -> str:
    """``emoji-category`` -> ``emoji category``, ``fashion_mnist-10000`` -> ``Fashion-MNIST``."""
    name, _, part = dataset.partition("-")
    part = "" if re.fullmatch(r"\d+(px)?", part) else part.replace("_", " ")
    return f"{DATASETS.get(name, name.replace('_', ' '))} {part}".rstrip()


def metric_name(metric: str) -> str:
    """``image_to_text_r1`` -> ``image → text R@1``."""
    found = _RECALL.fullmatch(metric)
    if not found:
        return METRICS.get(metric, metric.replace("_", " "))
    kind = found[3].replace("infonce", "InfoNCE").replace("mrr", "MRR")
    return f"{found[1]} → {found[2]} {re.sub(r'^r', 'R@', kind)}"


def configuration_name(framework: str, model: str, pool: str, note: str = "") -> str:
    """``mini-RN50, emoji clip art``; the framework only where the model does not tell it."""
    prefix = "" if framework == "clip" else f"{FRAMEWORKS.get(framework, framework)} "
    return f"{prefix}{model}, {pool_name(pool)}" + (f" ({note})" if note else "")


def pool_name(pool: str) -> str:
    """``fashion_mnist-6000`` -> ``Fashion-MNIST 6000``."""
    return POOLS.get(pool) or " ".join(DATASETS.get(part, part.replace("_", " ")) for part in pool.split("-"))
