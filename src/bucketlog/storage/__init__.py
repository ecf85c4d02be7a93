"""One store over one backend: where it lies, what was proven of it, and puts whose outcome is certain."""
