"""Benchmarks and studies: run from the repository's root."""
