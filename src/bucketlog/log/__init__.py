"""The partitions of a stream: who gets the next offset, and which events a partition holds."""
