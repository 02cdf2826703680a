"""A GGUF file of a Llama with a byte-level BPE tokenizer, for llama.cpp and Ollama.

What differs from the checkpoint: the names of tensors, the order of the rows of queries and keys (llama.cpp rotates
neighbouring dimensions, transformers the two halves of a head), and the tokenizer, which is written as lists of tokens
and merges with the name of its pre-tokenizer.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from selfie.errors import ConfigurationError, ModelError
from selfie.export.weights import check_finite
from selfie.models.chat_template import turn_end
from selfie.models.checkpoint import Checkpoint

REMEDY = "set export.gguf to null, and convert the exported folder with llama.cpp's convert_hf_to_gguf.py"
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {"gpt-2": [_BYTES], "smollm": [_DIGITS, _BYTES]}
"""llama.cpp's name → what stands in ``tokenizer.json``."""


def check_gguf(checkpoint: Checkpoint) -> None:
    """Reads configuration and tokenizer, no weights.

    Raises:
        ConfigurationError: the package ``gguf`` is not installed.
        ModelError: GGUF can't be written of this architecture or this tokenizer.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ConfigurationError("export.gguf", "writing GGUF needs the package gguf", "pip install 'selfie[gguf]'")
    folder = Path(checkpoint.source)
    _check_architecture(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    file = folder / "tokenizer.json"
    _pre_tokenizer(json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})


def write_gguf(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: str, name: str, file: Path) -> None:
    """Writes model, tokenizer and chat template into one file.

    Args:
        model: a Llama in float32.
        tokenizer: with its chat template.
        kind: ``f32``, ``f16`` or ``q8_0``; tensors of one dimension stay float32.
        name: what the file calls the model.
        file: where to.

    Raises:
        ModelError: the model is none that can be written, or ``kind`` can't hold its weights.
    """
    from gguf import GGUFWriter, LlamaFileType

    _check_architecture(model.config.to_dict())
    if kind != "f32":
        check_finite(model, torch.float16, name, "export.gguf")
    writer = GGUFWriter(file, "llama")
    file_types = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_types[kind])
    writer.add_quantization_version(2)
    _add_shape(writer, model.config)
    _add_tokenizer(writer, tokenizer, model.config.vocab_size)
    _add_tensors(writer, model, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_architecture(config: dict[str, Any]) -> None:
    names = ", ".join(config.get("architectures") or ["of no name"])
    rope = config.get("rope_parameters") or {}
    plain = {
        "another activation than silu": config.get("hidden_act", "silu") == "silu",
        "biases": not (config.get("attention_bias") or config.get("mlp_bias")),
        "scaled rotary embeddings": rope.get("rope_type", "default") == "default",
        "partly rotated heads": rope.get("partial_rotary_factor", 1.0) == 1.0,
    }
    extra = [what for what, absent in plain.items() if not absent]
    if config.get("model_type") != "llama" or names != "LlamaForCausalLM" or extra:
        found = f"the architecture {names}" + (f" with {', '.join(extra)}" if extra else "")
        problem = f"{found} is not written as GGUF here, a plain LlamaForCausalLM is"
        raise ModelError("export.gguf", problem, REMEDY)


def _pre_tokenizer(content: dict[str, Any]) -> str:
    """llama.cpp's name of it, from what ``tokenizer.json`` holds."""
    model, first = content.get("model", {}), content.get("pre_tokenizer") or {}
    parts = first.get("pretokenizers", [first])
    parts = [{key: value for key, value in part.items() if key != "trim_offsets"} for part in parts]
    plain = not (content.get("normalizer") or model.get("byte_fallback") or model.get("ignore_merges"))
    for name, known in PRE_TOKENIZERS.items():
        if model.get("type") == "BPE" and plain and parts == known:
            return name
    split = ", ".join(str(part.get("type")) for part in parts)
    problem = f"the tokenizer ({model.get('type')}, split by {split}) is no byte-level BPE of the kinds written here"
    raise ModelError("export.gguf", problem, REMEDY)


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """``size``: rows of the embedding; those that no token uses are filled up, as llama.cpp's converter does."""
    from gguf import TokenType

    content = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    tokens, types = [f"[PAD{number}]" for number in range(size)], [TokenType.UNUSED] * size
    for token, number in content["model"]["vocab"].items():
        tokens[number], types[number] = token, TokenType.NORMAL
    for added in content["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    merges = content["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(content))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_eot_token_id(turn_end(tokenizer))
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(False)  # the chat template writes it where there is one
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tokenizer.get_chat_template())


def _add_tensors(writer: Any, model: PreTrainedModel, kind: str) -> None:
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
    from gguf.quants import quantize

    names = get_tensor_name_map(MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        part = name.split(".")[-2]
        if part in heads:
            values = _interleave(values, heads[part])
        fitting = _type_of(values, GGMLQuantizationType[kind.upper()], GGMLQuantizationType)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), quantize(values, fitting), raw_dtype=fitting)


def _type_of(values: np.ndarray, wanted: Any, types: Any) -> Any:
    """Vectors stay float32; rows that do not divide into q8_0's blocks of 32 are float16, as in llama.cpp."""
    if values.ndim == 1:
        return types.F32
    blocks = 32
    return types.F16 if wanted == types.Q8_0 and values.shape[-1] % blocks else wanted


def _interleave(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys, a head's two halves in turn: [heads × 2 × half, hidden] → [heads × half × 2, hidden]."""
    return weights.reshape(heads, 2, -1, weights.shape[-1]).swapaxes(1, 2).reshape(weights.shape)
