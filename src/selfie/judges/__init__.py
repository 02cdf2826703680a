"""Judges: the policy's implicit reward, a prompted model, a reward model, an endpoint, gold annotators."""
