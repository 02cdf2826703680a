"""Noise-aware preference training on TRL's DPO trainer."""
