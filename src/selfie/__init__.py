"""Selfie: align a language model from a few preference labels by letting it label its own data."""

__version__ = "0.1.0"
