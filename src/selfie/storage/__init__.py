"""How artefacts are committed: manifests, shards, locks, caches."""
