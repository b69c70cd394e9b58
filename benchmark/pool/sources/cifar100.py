"""CIFAR-100: 60,000 photographs of 32 px in 100 classes, without captions; for MoCo, probes and zero-shot."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.pool.sources._cifar import Cifar


@dataclass(frozen=True, kw_only=True)
class Cifar100(Cifar):
    """CIFAR-100: 50,000 training and 10,000 test photographs of 32 px in 100 classes."""

    data_set = "cifar100"
