"""Bloom filters: every added text is found, and most others are ruled out."""

import struct

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from bucketlog.format import bloom

texts = st.text(st.characters(codec="utf-8"))

# Of https://github.com/apache/parquet-format/blob/apache-parquet-format-2.10.0/BloomFilter.md
PARQUET_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def filter_of(added, *, bits=16):
    hashes = bloom.hash_texts(added)
    return bloom.build(hashes, bloom.blocks_for(len(hashes), bits=bits))


@pytest.mark.slow
@given(st.lists(texts, max_size=50), st.integers(1, 40))
def test_what_was_added_is_found_one_by_one_and_all_at_once(added, bits):
    words = filter_of(added, bits=bits)

    assert all(bloom.may_hold(words.tobytes(), bloom.hash_text(text)) for text in added)
    assert bloom.may_hold_many(words, bloom.hash_texts(added)).all()


@pytest.mark.slow
@given(st.lists(texts, max_size=30), st.lists(texts, min_size=1, max_size=30))
def test_all_ways_to_ask_agree(added, asked):
    words = filter_of(added)
    hashes = [bloom.hash_text(one) for one in asked]

    one_by_one = [bloom.may_hold(words.tobytes(), hashed) for hashed in hashes]

    assert bloom.hash_texts(asked).tolist() == hashes
    assert bloom.may_hold_many(words, bloom.hash_texts(asked)).tolist() == one_by_one
    assert [bool(bloom.which_may_hold(words[None], hashed)[0]) for hashed in hashes] == one_by_one


@pytest.mark.slow
@given(st.lists(st.lists(texts, max_size=8), min_size=1, max_size=8), texts)
def test_each_filter_of_a_stack_is_asked(groups, asked):
    size = bloom.blocks_for(max(map(len, groups)), bits=16)
    stacked = np.stack([bloom.build(bloom.hash_texts(group), size) for group in groups])

    found = bloom.which_may_hold(stacked, bloom.hash_text(asked))

    assert [bool(one) for one in found] == [bloom.may_hold(one.tobytes(), bloom.hash_text(asked)) for one in stacked]
    assert all(found[place] for place, one in enumerate(groups) if asked in one)


@given(st.lists(texts, max_size=20))
def test_filters_are_those_of_parquet(added):
    blocks = 3
    expected = [[0] * 8 for _ in range(blocks)]
    for one in added:
        hashed = xxhash.xxh64_intdigest(one.encode(), seed=0)
        block = expected[((hashed >> 32) * blocks) >> 32]
        for word, salt in enumerate(PARQUET_SALTS):
            block[word] |= 1 << (((hashed & 0xFFFFFFFF) * salt & 0xFFFFFFFF) >> 27)

    words = bloom.build(bloom.hash_texts(added), blocks)

    assert words.tobytes() == b"".join(struct.pack("<8I", *one) for one in expected)


@pytest.mark.parametrize(("bits", "passing_max"), [(16, 0.004), (32, 0.0002)])
def test_few_of_the_others_pass(bits, passing_max):
    words = filter_of([f"stored {number}" for number in range(20_000)], bits=bits)

    passed = bloom.may_hold_many(words, bloom.hash_texts([f"other {number}" for number in range(100_000)]))

    assert passed.mean() < passing_max


def test_an_empty_filter_holds_nothing():
    words = filter_of([])

    assert words.nbytes == bloom.BLOCK_BYTES
    assert not bloom.may_hold_many(words, bloom.hash_texts(["a", "", "b"])).any()


@given(texts)
def test_a_text_of_one_kind_is_not_taken_for_the_same_text_of_another(text):
    assert len({bloom.hash_text(text, kind) for kind in (b"t", b"o", b"s", b"g")}) == 4


@given(st.integers(0, 10**7), st.integers(1, 64))
def test_a_filter_has_the_bits_that_were_asked_for(count, bits):
    blocks = bloom.blocks_for(count, bits=bits)

    assert blocks >= 1
    assert (blocks - 1) * bloom.BLOCK_BYTES * 8 < max(count * bits, 1) <= blocks * bloom.BLOCK_BYTES * 8
