"""The backends that ship with bucketlog. Each imports its own client library, and the core imports no backend."""
