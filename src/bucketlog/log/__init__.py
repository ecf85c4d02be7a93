"""One stream's partitions: who gets the next offset, and what a partition holds."""
