"""scan-bench: pruning methods for contrastive pre-training, trained, evaluated and recorded."""
