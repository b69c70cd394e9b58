"""What was pruned: samples, classes and how far runs agree on them."""
