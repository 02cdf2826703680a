"""Policies by name: those of the experiment, and folders elsewhere."""

import re
from pathlib import Path

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol

from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint
from selfie.storage.commit import is_committed


def policy_folder(policy: str, catalog: CatalogProtocol) -> Path:
    """Where a trained policy is, or would be."""
    return Path(str(catalog.config_resolver.resolve_pattern(policy)["filepath"]))  # type: ignore[attr-defined]


def trained_policies(catalog: CatalogProtocol) -> list[str]:
    """The experiment's that are there and complete: ``policy_0``, ``policy_1`` …"""
    names = (name for name in pipelines["__default__"].datasets() if re.fullmatch(r"policy_\d+", name))
    return sorted(
        (name for name in names if is_committed(policy_folder(name, catalog))), key=lambda name: int(name[7:])
    )


def find_policy(name: str, catalog: CatalogProtocol) -> Checkpoint:
    """A policy of the experiment, or a model's folder.

    Raises:
        ModelError: there is none of this name, or its files can't be used.
    """
    there = trained_policies(catalog)
    if catalog.exists("initial_model"):
        there.insert(0, "initial_model")
    if name in there:
        checkpoint: Checkpoint = catalog.load(name)
    elif Path(name).is_dir():
        checkpoint = Checkpoint(name)
    else:
        known = f"there are: {', '.join(there)}" if there else "train some with `kedro run`"
        raise ModelError(name, "there is no policy and no folder of this name", f"{known}; or name a model's folder")
    checkpoint.check_files()
    return checkpoint
