"""The process: its memory, its signals, its random seeds."""
