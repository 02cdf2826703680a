"""Talking to one policy, or to two blind and with votes, in the terminal."""
