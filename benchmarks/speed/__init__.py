"""``make bench``: how fast the stages are beside what a user would otherwise run, and beside the machine's limit."""
