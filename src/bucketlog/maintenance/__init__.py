"""Upkeep: compaction, vacuum, truncation and verification."""
