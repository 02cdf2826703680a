"""A quantised GGUF file becomes a checkpoint in safetensors."""

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint


def convert_gguf(file: Path, folder: Path) -> Checkpoint:
    """De-quantises ``file`` with transformers and saves model (fp32) and tokenizer into ``folder``."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(str(file), "reading GGUF needs the package gguf", "pip install 'selfie[gguf]'")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # Otherwise save_pretrained takes the model for a quantised one.
    del model.config.quantization_config
    for mark in ("hf_quantizer", "is_quantized"):
        delattr(model, mark)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return Checkpoint(str(folder))


def find_packaged_gguf(package: str) -> Path:
    """The GGUF file inside an installed package, which is not imported.

    Raises:
        ModelError: the package is not installed or carries no GGUF file.
    """
    spec = importlib.util.find_spec(package)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ModelError(
            f"package {package}",
            "it is not installed, or carries no GGUF file",
            "run `make install`, or set `preparation: none` and `model:` in globals.yml to use a model of your own",
        )
    return files[0]
