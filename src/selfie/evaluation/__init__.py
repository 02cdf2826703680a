"""AlpacaEval-style comparison with the initial model, and the audit of self-made labels."""
