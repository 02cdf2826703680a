"""Handles on model checkpoints: nodes pass a folder, never a torch module."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from selfie.errors import ModelError


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

    def load_model(self, dtype: torch.dtype) -> PreTrainedModel:
        """The model in evaluation mode on the compute device. Safetensors only, no code from the repository."""
        model = AutoModelForCausalLM.from_pretrained(
            self.source, revision=self.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        return model.eval().to(compute_device())

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, checked for what generation and training need of it.

        Raises:
            ModelError: the folder has no tokenizer, no chat template or no end-of-sequence token.
        """
        self.check_files()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                self.source, f"its tokenizer can't be read ({error})", "save one with tokenizer.save_pretrained()"
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

    def check_files(self) -> None:
        """Raises ModelError, reading no weights, where a local folder lacks what a checkpoint needs."""
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
