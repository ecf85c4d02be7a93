"""Reading a stream's partitions: readers, tails, `recent`, splits and Arrow."""
