"""The two largest products of the static methods on a GPU, where there is one: nearest centroids, and log-sums.

The same answers as the host's to float32's rounding; ``device`` may be the CPU, for tests.
"""

from __future__ import annotations

import numpy as np
import torch

ELEMENTS = 1 << 28
"""Products held at once: 1 GB."""


def device() -> torch.device | None:
    """The GPU of this process, or None."""
    return torch.device("cuda") if torch.cuda.is_available() else None


def nearest(rows: np.ndarray, centroids: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, d] and [K, d] -> each row's largest product, float32 [n], and whose it is, int64 [n]."""
    on_device = torch.from_numpy(centroids).to(device)
    found = [
        (part.to(device) @ on_device.T).max(dim=1)
        for part in torch.from_numpy(rows).split(max(1, ELEMENTS // len(centroids)))
    ]
    largest, which = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return largest, which


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
    return torch.cat(by_image).double().cpu().numpy(), by_text.double().cpu().numpy()
