"""The sections of a study file, as checked data."""
