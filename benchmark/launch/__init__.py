"""Starting runs: what there is to do, on this machine or on SLURM."""
