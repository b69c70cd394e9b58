"""A live cluster for each file of tests that asks for one."""

from live_slurm import harsh_slurm, slurm

__all__ = ["harsh_slurm", "slurm"]
