"""Backends that ship with bucketlog. Each imports its client library itself; the core imports none of them."""
