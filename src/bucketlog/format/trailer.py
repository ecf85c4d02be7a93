"""The trailer that completes a commit: its parts, and the bytes that its checksum covers."""

import re

TRAILER_BYTES = 51
ALL_BEFORE_SYNCED = 0x01  # flag: everything before this commit was synced when it was written

TRAILER = re.compile(rb',"commit":"([0-9a-f]{8})-([0-9a-f]{2})-([0-9a-f]{16})-([0-9a-f]{8})"}\n')
# The end of a commit that the CRC does not cover: its own 8 digits, quote, brace, newline.
CRC_BYTES = 11
