"""Rules that choose which pairs are labelled, compared in the synthetic language."""
