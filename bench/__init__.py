"""Benchmarks: `python -m bench`. Every figure in the README has its row here."""
