"""The run's bucket, where ``SELFIE_DATA`` is one, and the paths of the run's artefacts in it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext

from selfie.storage.remote import Bucket, is_address, scratch_folder


def bucket_of(context: KedroContext) -> Bucket | None:
    """The bucket that ``SELFIE_DATA`` names; None where it is a folder, or ``conf/`` names another place.

    Raises:
        ConfigurationError: the address is none, or the package for it is not installed.
    """
    address, data = os.environ.get("SELFIE_DATA", ""), str(context.config_loader["globals"]["data"])
    if not is_address(address) or data != scratch_folder(address):
        return None
    return Bucket(address, Path(context.project_path, data))


def local_paths(names: Iterable[str], catalog: Any) -> set[Path]:
    """Where these datasets lie on this machine, as far as they have one path."""
    entries = [catalog.config_resolver.resolve_pattern(name) for name in names]
    paths = {str(entry.get("filepath") or "") for entry in entries if isinstance(entry, dict)}
    return {Path(path) for path in paths if path and not is_address(path)}
