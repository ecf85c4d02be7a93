"""The file formats: values to bytes and back, without any I/O."""
