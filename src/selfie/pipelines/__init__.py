"""One room per stage: ``pipeline.py`` is a diagram, ``nodes.py`` calls plain modules."""
