"""Speaking to SLURM; knows no run."""
