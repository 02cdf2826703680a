"""What is known of the initial model: its repository, licence and languages, from its own model card."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard
from transformers.utils import cached_file

from selfie.config.export import ExportParameters
from selfie.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class BaseModel:
    """None where nothing is known."""

    name: str
    repository: str | None
    license: str | None
    languages: list[str] | None


def base_model(initial: Checkpoint, export: ExportParameters) -> BaseModel:
    """What the parameters say, else the model's own card and where it came from."""
    own = _own_card(initial)
    languages = own.get("language")
    return BaseModel(
        name=initial.name,
        repository=export.base_model or (initial.source if initial.revision else None),
        license=export.license or own.get("license"),
        languages=[languages] if isinstance(languages, str) else languages,
    )


def _own_card(initial: Checkpoint) -> dict:
    try:
        file = cached_file(initial.source, "README.md", revision=initial.revision)
    except OSError:  # not every model has a card
        return {}
    return ModelCard.load(Path(file), ignore_metadata_errors=True).data.to_dict() if file else {}
