"""Who says which response is better: the policy's own logits, or (where there is one) the gold annotator."""
