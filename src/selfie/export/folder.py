"""The exported folder: what transformers, vLLM and the hub read, and what llama.cpp and Ollama do."""

import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from selfie.config.export import ExportParameters
from selfie.export.gguf_file import write_gguf
from selfie.export.modelfile import modelfile
from selfie.export.weights import check_finite, exported_weights
from selfie.models.checkpoint import Checkpoint
from selfie.models.stop_tokens import stop_token_ids

TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges*")


def write_folder(
    policy: Checkpoint, initial: Checkpoint, card: str, name: str, export: ExportParameters, folder: Path
) -> Checkpoint:
    """Writes model, tokenizer, chat template, generation config and card, and a GGUF file where one is wanted.

    Args:
        policy: a local folder.
        initial: θ_0 of the extrapolation.
        card: the text of README.md.
        name: of the GGUF file, and in it.
        export: dtype, extrapolation, GGUF type.
        folder: where to; what is there goes.

    Raises:
        ModelError: the dtype can't hold the weights, or GGUF can't hold the model.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = policy.load_tokenizer()
    stops = stop_token_ids(policy, tokenizer)
    model = exported_weights(policy, initial, export.extrapolation)
    if export.gguf is not None:
        file = folder / f"{name}-{export.gguf}.gguf"
        write_gguf(model, tokenizer, export.gguf, name, file)
        (folder / "Modelfile").write_text(modelfile(tokenizer, stops, file.name), encoding="utf-8")
    dtype: torch.dtype = getattr(torch, export.dtype)
    check_finite(model, dtype, policy.name, "export.dtype")
    model.config.use_cache = True  # training turns it off
    model.generation_config = _generation_config(tokenizer, stops)
    model.to(dtype).save_pretrained(folder)  # type: ignore[arg-type]
    for weights in folder.glob("*.safetensors"):  # written for their owner alone, whatever the umask
        shutil.copymode(folder / "config.json", weights)
    for pattern in TOKENIZER_FILES:
        for source in Path(policy.source).glob(pattern):
            shutil.copyfile(source, folder / source.name)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return Checkpoint(str(folder))


def _generation_config(tokenizer: PreTrainedTokenizerBase, stops: list[int]) -> GenerationConfig:
    """All stop tokens, and nothing of how to sample: that is for who uses the model."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id
    )
