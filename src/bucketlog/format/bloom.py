"""Bloom filters: they tell which texts are certainly not in a set.

These are split block Bloom filters as Parquet defines them
(https://github.com/apache/parquet-format/blob/apache-parquet-format-2.10.0/BloomFilter.md): blocks of eight 32-bit
words, little-endian, one bit set in each word, XXH64 with seed 0. A lookup touches 32 bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

BLOCK_BYTES = 32

_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def hash_text(text: str, kind: bytes = b"") -> int:
    """Return the 64-bit hash of a text; the same text hashes differently for another kind."""
    return xxhash.xxh64_intdigest(kind + text.encode())


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return the hashes of texts, like `hash_text` without a kind."""
    import numpy as np  # imported late: it takes 100 ms, and a first append does not need it

    return np.fromiter(map(xxhash.xxh64_intdigest, map(str.encode, texts)), dtype=np.uint64)


def blocks_for(count: int, *, bits: int) -> int:
    """Return the number of blocks for a filter of `count` texts with `bits` bits each."""
    return max(1, -(-count * bits // (8 * BLOCK_BYTES)))


def may_hold(words: bytes, hashed: int) -> bool:
    """Return whether a filter may contain the text with this hash; False is certain."""
    start = (((hashed >> 32) * (len(words) // BLOCK_BYTES)) >> 32) * BLOCK_BYTES
    mask = _mask_of(hashed & 0xFFFFFFFF)
    return int.from_bytes(words[start : start + BLOCK_BYTES], "little") & mask == mask


@lru_cache(maxsize=64)  # one id is looked up in the filters of many segments
def _mask_of(low: int) -> int:
    return sum(1 << (32 * word + ((low * salt & 0xFFFFFFFF) >> 27)) for word, salt in enumerate(_SALTS))


def build(hashes: NDArray[np.uint64], blocks: int) -> NDArray[np.uint32]:
    """Return a filter for some hashes, with the shape (blocks, 8)."""
    import numpy as np

    words = np.zeros((blocks, 8), dtype="<u4")
    places = places_of(hashes, blocks)
    np.bitwise_or.at(words, places, masks_of(hashes))
    return words


def places_of(hashes: NDArray[np.uint64], blocks: int) -> NDArray[np.int64]:
    """Return the block of each hash in a filter of `blocks` blocks."""
    import numpy as np

    return ((hashes >> np.uint64(32)) * np.uint64(blocks) >> np.uint64(32)).astype(np.int64)


def masks_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the bits of each hash in its block, with the shape (len(hashes), 8)."""
    import numpy as np

    salts = np.array(_SALTS, dtype=np.uint32)
    low = hashes.astype(np.uint32)
    return np.uint32(1) << ((low[:, None] * salts) >> np.uint32(27))


def may_hold_many(
    words: NDArray[np.uint32], hashes: NDArray[np.uint64], masks: NDArray[np.uint32] | None = None
) -> NDArray[np.bool_]:
    """Return, for each hash, whether a filter of shape (blocks, 8) may contain it; `masks` is `masks_of(hashes)`."""
    masks = masks_of(hashes) if masks is None else masks
    found: NDArray[np.bool_] = ((words[places_of(hashes, len(words))] & masks) == masks).all(axis=1)
    return found


def which_may_hold(stacked: NDArray[np.uint32], hashed: int) -> NDArray[np.bool_]:
    """Return, for each filter of a stack with shape (filters, blocks, 8), whether it may contain a hash."""
    import numpy as np

    single = np.array([hashed], dtype=np.uint64)
    mask = masks_of(single)[0]
    block = int(places_of(single, stacked.shape[1])[0])
    found: NDArray[np.bool_] = ((stacked[:, block] & mask) == mask).all(axis=1)
    return found
