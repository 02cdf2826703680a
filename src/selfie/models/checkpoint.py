"""Handles on model checkpoints: nodes pass a folder, never a torch module."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from selfie.errors import ModelError

# On a CPU oneDNN and torch's layer above it keep the code that they compile for each shape of a matrix product, 1,024
# shapes each: 0.4 MiB a shape, so that memory would grow for hundreds of batches, whose shapes hardly ever come again.
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def compute_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


@dataclass(frozen=True)
class Checkpoint:
    """A causal language model with its tokenizer, in a local folder or on the Hugging Face hub.

    Args:
        source: a folder, or a repository on the hub.
        revision: the hub commit, pinned.
    """

    source: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """What reports call it: a folder's own name, without the path on this machine, or the hub repository's."""
        return Path(self.source).name if Path(self.source).is_dir() else self.source

    def load_model(
        self, dtype: torch.dtype, device: torch.device | None = None, quantised: BitsAndBytesConfig | None = None
    ) -> PreTrainedModel:
        """The model in evaluation mode, on the compute device unless said otherwise.

        Safetensors only, no code from the repository. ``quantised``: how its linear layers are stored, but the head.
        """
        device = device or compute_device()
        ways = {"quantization_config": quantised, "device_map": {"": device}} if quantised else {}
        model = AutoModelForCausalLM.from_pretrained(
            self.source, revision=self.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False, **ways
        )
        return model.eval() if quantised else model.eval().to(device)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, checked for what generation and training need of it.

        Raises:
            ModelError: the folder has no tokenizer, no chat template or no end-of-sequence token.
        """
        self.check_files()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)
        except Exception as error:  # whatever a damaged file leads transformers into
            raise ModelError(
                self.source,
                f"its tokenizer can't be read ({error!r:.300})",
                "save one with tokenizer.save_pretrained()",
            ) from error
        if not tokenizer.chat_template:
            raise ModelError(
                self.source,
                "the tokenizer has no chat template",
                "use an instruction-tuned model, or set tokenizer.chat_template and save it again",
            )
        if tokenizer.eos_token_id is None:
            raise ModelError(self.source, "the tokenizer has no eos_token", "set tokenizer.eos_token and save it again")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def weights(self) -> int | None:
        """How many weights the files of a local folder hold, by their headers; None on the hub."""
        files = list(Path(self.source).glob("*.safetensors"))
        if not files:
            return None
        total = 0
        for file in files:
            with safe_open(file, framework="pt") as opened:
                total += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
        return total

    def check_files(self) -> None:
        """Raises ModelError, reading no weights, where a local folder lacks what a checkpoint needs or holds code."""
        folder = Path(self.source)
        if not folder.exists():
            if self.revision is None:
                raise ModelError(
                    self.source,
                    "this model folder does not exist",
                    "name an existing folder in globals.yml (model:), or a hub repository with its revision",
                )
            return
        for pattern, what in (
            ("config.json", "config.json"),
            ("*.safetensors", "weights in safetensors format"),
            ("tokenizer_config.json", "tokenizer (tokenizer_config.json)"),
        ):
            if not any(folder.glob(pattern)):
                raise ModelError(self.source, f"the folder has no {what}", "save model and tokenizer into it again")
        _refuse_code(folder)
        _check_weights(folder)


def _refuse_code(folder: Path) -> None:
    """Nothing in a checkpoint may run: neither pickles nor Python files, nor a configuration that asks for them."""
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLES:
            raise ModelError(
                str(file), "it is a pickle, which runs code when it is read", "delete it: safetensors are all it takes"
            )
        if file.suffix == ".py":
            raise ModelError(str(file), "a checkpoint's own code is never run", "delete it, or use another model")
    for file in sorted(folder.glob("*config.json")):
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelError(
                str(file), f"it is not JSON ({error})", "save model and tokenizer into it again"
            ) from error
        if not isinstance(settings, dict):
            raise ModelError(str(file), "it is not a JSON object", "save model and tokenizer into it again")
        if "auto_map" in settings:
            raise ModelError(
                str(file),
                "it asks for code of its own (auto_map), which is never run",
                "remove auto_map if transformers knows the architecture, else use another model",
            )


def _check_weights(folder: Path) -> None:
    """Reads the headers alone: they say how long each file must be."""
    remedy = "copy or save the model again"
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(str(index), f"it lists no shards ({error!r})", remedy) from error
        missing = sorted(str(name) for name in shards if not (folder / str(name)).is_file())
        if missing:
            raise ModelError(str(index), f"{missing[0]} is not there", remedy)
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(str(file), f"the weights are damaged ({error})", remedy) from error
