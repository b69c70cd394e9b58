"""What is noted of each sample while a run trains."""
