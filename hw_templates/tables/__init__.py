"""Component tables: energy and area per named technology, each file with its source."""
