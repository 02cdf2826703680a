"""What a user sets: the parameters' schema, methods, the pipelines' options, checks of ``conf/``."""
