"""A synthetic language with a known truth, in which a whole run takes a minute."""
