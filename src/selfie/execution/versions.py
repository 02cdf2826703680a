"""Which packages a run and a Ray node have; imports none of them, so that a node answers at once."""

from collections.abc import Mapping
from importlib.metadata import version

from selfie import __version__


def versions_here() -> dict[str, str]:
    """Of the packages that decide what comes of a shard."""
    return {"selfie": __version__, **{name: version(name) for name in ("torch", "transformers")}}


def other_versions(run: Mapping[str, str], node: Mapping[str, str]) -> str:
    """``transformers 5.16.1, the run has 5.17.0``; empty where they are the same."""
    others = [name for name in run if node[name] != run[name]]
    return "; ".join(f"{name} {node[name]}, the run has {run[name]}" for name in others)
