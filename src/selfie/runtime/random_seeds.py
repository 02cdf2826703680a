"""One seed a run; everything else is derived from it, so that shards and resumes never change what is drawn."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and what it is for, e.g. (seed, iteration, prompt id, sample index)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
