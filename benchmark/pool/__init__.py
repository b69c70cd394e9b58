"""Pools of samples and the sources they come from."""

from benchmark.pool.samples import (
    SAMPLE_FAULTS,
    Pool,
    PoolError,
    PoolView,
    Sample,
    SampleError,
    digest_of,
    fingerprint_of,
)
from benchmark.pool.source import SPLITS, LabelledSet, PairSet, Source, TestSet, TrainSet, data_folder, make_source

__all__ = [
    "SAMPLE_FAULTS",
    "SPLITS",
    "LabelledSet",
    "PairSet",
    "Pool",
    "PoolError",
    "PoolView",
    "Sample",
    "SampleError",
    "Source",
    "TestSet",
    "TrainSet",
    "data_folder",
    "digest_of",
    "fingerprint_of",
    "make_source",
]
