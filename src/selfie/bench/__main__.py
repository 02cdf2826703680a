"""``python -m selfie.bench``: apart from the programme, for a new process can't import what stands in a __main__."""

from selfie.bench.programme import main

main()
