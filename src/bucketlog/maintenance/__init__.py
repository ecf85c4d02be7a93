"""Maintenance: compaction, vacuum, truncation and verification."""
