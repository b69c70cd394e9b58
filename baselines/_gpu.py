"""The large products of the static methods on a GPU, where there is one.

The same answers as the host's to float32's rounding, whatever the order of threads, so that ranks agree; of equals
another one may come first. ``device`` may be the CPU, for tests. TF32 stays off, as torch has it.
Letters in shapes: n, m rows; k neighbours; d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

ELEMENTS = 1 << 28
"""Products held at once: 1 GB."""
HELD = 8 << 30
"""Bytes of rows that stay on the device while they are used again and again: 4 M x 512."""


def device() -> torch.device | None:
    """The GPU of this process, or None."""
    return torch.device("cuda") if torch.cuda.is_available() else None


def held(parts: Iterable[np.ndarray], device: torch.device) -> list[Tensor]:
    """Arrays as tensors: those of the first ``HELD`` bytes on the device, others stay on the host."""
    found, room = [], HELD
    for part in parts:
        room -= part.nbytes
        found.append(torch.from_numpy(part).to(device if room >= 0 else "cpu"))
    return found


def nearest(rows: np.ndarray, centroids: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, d] and [K, d] -> each row's largest product, float32 [n], and whose it is, int64 [n]."""
    on_device = torch.from_numpy(centroids).to(device)
    found = [
        (part.to(device) @ on_device.T).max(dim=1)
        for part in torch.from_numpy(rows).split(max(1, ELEMENTS // len(centroids)))
    ]
    largest, which = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return largest, which


def neighbours(
    queries: np.ndarray, rows: np.ndarray, k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """As ``faiss.knn``: squared distances, float32 [n, k] rising, and places in ``rows``, int64 [n, k]."""
    others = torch.from_numpy(rows).to(device)
    squares = others.square().sum(dim=1)  # [m]
    found = []
    for part in torch.from_numpy(queries).split(max(1, ELEMENTS // len(rows))):
        mine = part.to(device)
        distances = torch.addmm(squares, mine, others.T, alpha=-2).add_(mine.square().sum(dim=1, keepdim=True))
        found.append(distances.topk(k, largest=False))
    distances_found, places = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return distances_found, places


def largest_before(rows: np.ndarray, device: torch.device) -> np.ndarray:
    """float32 [n, d] -> float32 [n]: each row's largest product with an earlier row, at least 0."""
    parts = held(np.array_split(rows, math.ceil(len(rows) / math.isqrt(ELEMENTS))), device)
    found = []
    for number, part in enumerate(parts):
        columns = part.to(device).T
        largest = (part.to(device) @ columns).triu_(1).amax(dim=0)
        for before in parts[:number]:
            largest = torch.maximum(largest, (before.to(device) @ columns).amax(dim=0))
        found.append(largest.clamp_(min=0))
    return torch.cat(found).cpu().numpy()


def largest_size(rows: np.ndarray, others: list[Tensor], device: torch.device) -> np.ndarray:
    """float32 [n, d] and parts of [m, d] -> float32 [n]: each row's largest absolute product."""
    mine = torch.from_numpy(rows).to(device)
    found = [(mine @ part.to(device).T).abs_().amax(dim=1) for part in others]
    return torch.stack(found).amax(dim=0).cpu().numpy()


def log_sums(
    images: np.ndarray, texts: np.ndarray, temperature: float, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """As ``neg_clip_loss.log_sums``: float32 [b, d] twice -> float64 [b] twice."""
    rows = torch.from_numpy(images).to(device) / temperature
    columns = torch.from_numpy(texts).to(device)
    by_image = []
    by_text = torch.full((len(columns),), -torch.inf, device=device)
    for part in rows.split(max(1, ELEMENTS // len(columns))):
        logits = part @ columns.T
        by_image.append(logits.logsumexp(dim=1))
        by_text = torch.logaddexp(by_text, logits.logsumexp(dim=0))
    return torch.cat(by_image).cpu().double().numpy(), by_text.cpu().double().numpy()


def row_sums(rows: np.ndarray, threshold: float, device: torch.device) -> np.ndarray:
    """float32 [n, d] -> float32 [n]: of a row's products with the others, those below ``threshold`` as 0."""
    return _row_sums(torch.from_numpy(rows).to(device), threshold).cpu().numpy()


def _row_sums(rows: Tensor, threshold: float) -> Tensor:
    found, size = [], max(1, ELEMENTS // len(rows))
    for number, part in enumerate(rows.split(size)):
        products = part @ rows.T
        products.masked_fill_(products < threshold, 0).diagonal(number * size).zero_()
        found.append(products.sum(dim=1))
    return torch.cat(found)


def greedily(rows: np.ndarray, threshold: float, count: int, decimals: int, device: torch.device) -> np.ndarray:
    """As ``sas.greedily``: bool [n]. A choice multiplies one row with all, and nothing waits for the device."""
    on_device = torch.from_numpy(rows).to(device)
    gain = _row_sums(on_device, threshold)
    chosen = torch.zeros(len(rows), dtype=torch.bool, device=device)
    for _ in range(count):
        best = gain.round(decimals=decimals).argmax(dim=0, keepdim=True)  # [1]
        products = on_device @ on_device.index_select(0, best)[0]
        gain -= 2 * products.masked_fill_(products < threshold, 0)
        gain.index_fill_(0, best, -torch.inf)
        chosen.index_fill_(0, best, True)
    return chosen.cpu().numpy()
