"""One package per stage: ``pipeline.py`` lists the nodes, ``nodes.py`` calls the modules that do the work.

Each ``nodes.py`` gives its steps' versions in ``STEP_VERSIONS``. Raise a step's version with every change, there or in
what it calls, after which it makes other results from the same inputs and parameters: finished artefacts are then made
anew. Leave it where results stay (a message, speed, a new parameter whose default changes nothing).

A node takes single parameters (``params:judging.shard_rows``) where the rest of their group must not repeat it.
"""
