"""What is stored, as bytes: values to bytes and back, without any I/O."""
