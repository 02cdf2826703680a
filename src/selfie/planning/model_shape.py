"""A model's size and shapes from its ``config.json``: transformers builds it without memory for its weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from selfie.errors import ModelError


@dataclass(frozen=True)
class ModelShape:
    """What arithmetic and memory depend on; numbers, not bytes."""

    parameters: int
    """All of them, tied ones once."""
    body: int
    """Weights of the layers' matrices that one token is multiplied with: of experts, those that it reaches."""
    head: int
    """Weights of the output head: width × vocabulary."""
    sides: int
    """Inputs and outputs of these matrices, summed: what training keeps of a token, and LoRA's weights per rank."""
    layers: int
    width: int
    attention_width: int
    """Query heads × their width; 0 without attention."""
    cache_width: int
    """Keys and values of a token in one layer."""
    vocabulary: int


def read_config(source: str, revision: str | None = None) -> PreTrainedConfig:
    """A model's configuration, from its folder, its ``config.json``, a GGUF file or (where it can be reached) the hub.

    Raises:
        ModelError: there is none, it can't be read, or transformers does not know the architecture.
    """
    path = Path(source)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(source, "the folder has no config.json", "name a model's folder, or its config.json")
    try:
        if path.suffix == ".gguf":
            return AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        if path.exists():
            _check_file(path / "config.json" if path.is_dir() else path)
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # whatever a file that nobody checked leads transformers into
        first = str(error).split("\n", 1)[0]
        remedy = "see that it is a model type that this transformers knows"
        if not path.exists():
            remedy = "name a model of the catalog, a model's folder or its config.json; a hub's model takes the network"
        raise ModelError(source, f"its configuration can't be read ({first:.300})", remedy) from error


def _check_file(file: Path) -> None:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(str(file), f"it is not JSON ({error})", "name a model's config.json") from error
    if not isinstance(settings, dict) or "model_type" not in settings:
        raise ModelError(str(file), "it names no model_type", "name a model's config.json")
    if "auto_map" in settings:
        raise ModelError(str(file), "it asks for code of its own (auto_map), which is never run", "use another model")


def model_shape(config: PreTrainedConfig, source: str) -> ModelShape:
    """Counts on the meta device: exact, whatever the architecture, in a second for 70B.

    Raises:
        ModelError: it is no causal language model, or its numbers do not fit together.
    """
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers checks no configuration as a whole
        first = str(error).split("\n", 1)[0]
        raise ModelError(source, f"no model can be made of it ({first:.300})", "mend its config.json") from error
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 0
    head_width = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    output = model.get_output_embeddings()
    body, sides = _matrices(model, embeddings | ({id(output.weight)} if output is not None else set()), text)
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        body=body,
        head=output.weight.numel() if output is not None else 0,
        sides=sides,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attention_width=heads * head_width,
        cache_width=2 * (getattr(text, "num_key_value_heads", None) or heads) * head_width,
        vocabulary=text.vocab_size,
    )


def _matrices(model: torch.nn.Module, outside: set[int], text: PreTrainedConfig) -> tuple[int, int]:
    """(weights, inputs and outputs) of all matrices that a token meets; experts are kept apart, or as one of 3 axes."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((count for name in names if (count := getattr(text, name, None))), 0)
    reached = (getattr(text, "num_experts_per_tok", None) or 1) if experts else 1
    weights = sides = 0.0
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or id(weight) in outside:  # noqa: PLR2004
            continue
        share = reached / experts if experts and ".experts." in name else 1.0
        weights += share * weight.numel()
        sides += share * sum(weight.shape[-2:]) * math.prod(weight.shape[:-2])
    return round(weights), round(sides)
