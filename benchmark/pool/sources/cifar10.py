"""CIFAR-10: 60,000 photographs of 32 px in 10 classes, without captions; for MoCo, probes and zero-shot."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.pool.sources._cifar import Cifar


@dataclass(frozen=True, kw_only=True)
class Cifar10(Cifar):
    """CIFAR-10: 50,000 training and 10,000 test photographs of 32 px in 10 classes."""

    data_set = "cifar10"
