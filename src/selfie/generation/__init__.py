"""Sampling responses: one protocol, two engines (transformers, vLLM)."""
