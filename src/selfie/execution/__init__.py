"""Who computes the shards of a stage: this process, several on this machine, or a Ray cluster."""
