"""A user's project, whose files tests spoil."""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A project's folder: ``conf/``, ``data/01_raw/`` with a user's good files, and a model."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "data/01_raw"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def configure(self, kind: str, text: str) -> None:
        """A further file of the environment's configuration."""
        (self.folder / "conf/mine" / f"{kind}_more.yml").write_text(text)

    def catalog(self, old: str, new: str) -> None:
        path = self.folder / "conf/mine/catalog.yml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.raw / name).read_text().splitlines()]
