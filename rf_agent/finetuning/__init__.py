"""Which parameters learn: trainable sets and low-rank adapters."""
