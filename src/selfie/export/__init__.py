"""The way out: a policy as a folder that works elsewhere, with a model card and, if wanted, a GGUF file."""
