"""Measurements of dicomlake against the tools people use today and against what the disk allows.

`python -m benchmarks` runs all jobs; docs/reference/benchmarks.md explains how to read the tables.
"""
