"""What may be chosen: the `Design` type, and one knob family a file."""
