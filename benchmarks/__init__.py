"""Measurements: python -m benchmarks.<what> prints a table and, as its last line, one JSON object."""
