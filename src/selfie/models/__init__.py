"""Models and tokenizers as they are on disk: checkpoints, GGUF files, chat templates, batches."""
