"""What a run takes, before anything is loaded: tokens, FLOPs, time, memory, disk, money. See docs/scaling.md."""
