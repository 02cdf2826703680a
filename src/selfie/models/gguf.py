"""A quantised GGUF file becomes a checkpoint in safetensors."""

import importlib.util
from pathlib import Path

import torch
from huggingface_hub import ModelCardData
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfie.errors import ModelError
from selfie.models.checkpoint import Checkpoint


def convert_gguf(file: Path, folder: Path) -> Checkpoint:
    """De-quantises ``file`` with transformers and saves model (fp32), tokenizer and what it says of itself."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(str(file), "reading GGUF needs the package gguf", "pip install 'selfie[gguf]'")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # Otherwise save_pretrained takes the model for a quantised one.
    del model.config.quantization_config
    for mark in ("hf_quantizer", "is_quantized"):
        delattr(model, mark)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    _write_card(file, folder)
    return Checkpoint(str(folder))


def _write_card(file: Path, folder: Path) -> None:
    """Licence and languages as the file names them: exported policies pass them on."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    said = {
        name: fields[f"general.{name}"].contents() for name in ("license", "languages") if f"general.{name}" in fields
    }
    card = ModelCardData(license=said.get("license"), language=said.get("languages"))
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n\nConverted from {file.name}.\n", encoding="utf-8")


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
