"""What other processes are asked to do with a split, in a module that they can import."""


def places_of(split):
    """Return the events with where they stand."""
    return [(one.partition, one.offset, one.id, one.data) for one in split.read()]


def counts_of(split):
    """Count them, read in both kinds of batches."""
    return sum(batch.num_rows for batch in split.read_arrow()), sum(len(batch.events) for batch in split.read_batches())
