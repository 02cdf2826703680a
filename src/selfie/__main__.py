"""``selfie`` and ``python -m selfie``: the commands of ``kedro`` by another name; ``run`` may be left out."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.project import configure_project
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project


def main(*args: Any, **kwargs: Any) -> Any:
    """``selfie [run] OPTIONS`` runs the project of this folder, else the package with the folder's ``conf/``."""
    project = find_kedro_project(Path.cwd())
    if project:
        bootstrap_project(project)
    else:
        configure_project("selfie")
    from selfie.cli import cli

    words = list(args[0]) if args else list(kwargs.pop("args", sys.argv[1:]))
    if not words or words[0] not in {*cli.commands, "--help"}:
        words.insert(0, "run")
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return cli(words, **kwargs)


if __name__ == "__main__":
    main()
