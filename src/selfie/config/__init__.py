"""What a user sets: the parameters' schema, methods, what shapes the pipelines, checks of ``conf/``."""
