"""MLflow: one parent run a ``kedro run``, one child run an iteration."""
