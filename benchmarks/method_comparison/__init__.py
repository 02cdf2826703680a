"""Methods compared over seeds in the synthetic language."""
