"""The synthetic task: a language with a known reward, in which a whole run takes a minute."""
