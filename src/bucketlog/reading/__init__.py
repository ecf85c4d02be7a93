"""Events out of partitions: readers, tails, `recent`, splits and Arrow."""
