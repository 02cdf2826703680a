"""``selfie`` and ``python -m selfie``: Kedro's commands for an installed package; ``run`` may be left out."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """``selfie [run] OPTIONS`` runs the project, with the options of ``kedro run``; ``selfie status`` shows how far."""
    configure_project(Path(__file__).parent.name)
    from selfie.cli import cli

    words = list(args[0]) if args else list(kwargs.pop("args", sys.argv[1:]))
    if not words or words[0] not in {*cli.commands, "--help"}:
        words.insert(0, "run")
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return cli(words, **kwargs)


if __name__ == "__main__":
    main()
