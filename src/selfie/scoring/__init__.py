"""Log-probs of given responses under a checkpoint."""
