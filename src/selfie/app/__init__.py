"""What starts and surrounds a run: hooks, runner, checks before it, status."""
