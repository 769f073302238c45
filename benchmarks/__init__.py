"""Benchmarks that anybody can run: ``make bench``. Every figure stands beside what it is compared with, in one run."""
