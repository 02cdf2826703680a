"""``python -m benchmarks.speed``: a new process can't import what stands in a __main__."""

from benchmarks.speed.programme import main

main()
