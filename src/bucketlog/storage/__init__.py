"""One store over one backend: its location, the proof of what its storage can do, and PUTs with a definite answer."""
