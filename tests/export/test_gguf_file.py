"""A GGUF file loads with transformers and says what the policy says; what can't be written is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from selfie.errors import ModelError
from selfie.export.gguf_file import check_gguf, write_gguf
from selfie.models.checkpoint import Checkpoint

pytest.importorskip("gguf", reason="needs the extra `gguf`")
MESSAGES = [{"role": "user", "content": "Why do 12 leaves fall in autumn? <|im_end|>é"}]


def written(checkpoint: Checkpoint, kind: str, folder: Path):
    """The file's model and tokenizer, and the checkpoint's."""
    model, tokenizer = checkpoint.load_model(torch.float32), checkpoint.load_tokenizer()
    check_gguf(checkpoint)
    write_gguf(model, tokenizer, kind, "tiny", folder / "tiny.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file="tiny.gguf", dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(folder, gguf_file="tiny.gguf"), model, tokenizer


@torch.no_grad()
def logits(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_round_trip(smollm: Checkpoint, tmp_path: Path, kind: str):
    """Exact in f32, rounded in f16; q8_0 is off by half a step of 1/127 of a block's largest, and by its rounding."""
    loaded, its_tokenizer, model, tokenizer = written(smollm, kind, tmp_path)
    ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert its_tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True)["input_ids"] == ids
    if kind == "f16":
        for weight in model.parameters():
            weight.data = weight.data.half().float() if weight.ndim > 1 else weight.data
    for name, weight in model.state_dict().items():
        difference = (loaded.state_dict()[name] - weight).abs()
        if kind == "q8_0" and weight.ndim > 1:
            largest = weight.reshape(-1, 32).abs().amax(-1, keepdim=True)
            assert (difference.reshape(-1, 32) <= largest * (0.57 / 127)).all(), name
        else:
            assert not difference.any(), name
    expected = logits(model, ids)
    assert (logits(loaded, ids) - expected).abs().mean() < (0.1 if kind == "q8_0" else 1e-5) * expected.std()
    if kind != "q8_0":
        answers = [m.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False) for m in (loaded, model)]
        assert torch.equal(*answers)


def test_untied_heads_of_another_width_and_rows_that_are_no_blocks(
    make_checkpoint: Callable[..., Checkpoint], bpe_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
):
    """Rows of 40 do not divide into blocks of 32: q8_0 keeps them in float16. The vocabulary is padded by 5."""
    checkpoint = make_checkpoint(bpe_tokenizer, hidden_size=40, head_dim=16)
    model = checkpoint.load_model(torch.float32)
    model.resize_token_embeddings(len(bpe_tokenizer) + 5)
    write_gguf(model, bpe_tokenizer, "q8_0", "tiny", tmp_path / "tiny.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32).eval()
    assert loaded.config.vocab_size == 405
    ids = [3, 50, 7, 200]
    assert (logits(loaded, ids) - logits(model, ids)).abs().max() < 0.5
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(loaded.state_dict()[name], model.state_dict()[name].half().float())


def test_the_file_says_where_an_answer_ends(smollm: Checkpoint, tmp_path: Path):
    from gguf import GGUFReader

    write_gguf(smollm.load_model(torch.float32), smollm.load_tokenizer(), "f16", "tiny", tmp_path / "tiny.gguf")
    fields = GGUFReader(tmp_path / "tiny.gguf").fields
    said = {name.rpartition(".")[2]: field.contents() for name, field in fields.items()}
    assert (said["pre"], said["eos_token_id"], said["eot_token_id"], said["add_bos_token"]) == ("smollm", 2, 2, False)
    assert (said["architecture"], said["head_count_kv"], said["file_type"]) == ("llama", 2, 1)
    assert said["token_type"][:4] == [3, 3, 3, 1]


CHANGES = {
    "architecture": ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "architecture Qwen2ForCausalLM"),
    "biases": ({"attention_bias": True}, "LlamaForCausalLM with biases"),
    "rope": ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "with scaled rotary embeddings"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_another_architecture_is_refused(smollm: Checkpoint, tmp_path: Path, case: str):
    changes, words = CHANGES[case]
    folder = Path(shutil.copytree(smollm.source, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError, match=words) as refusal:
        check_gguf(Checkpoint(str(folder)))
    assert "convert_hf_to_gguf.py" in refusal.value.remedy


def test_another_tokenizer_is_refused(tiny_checkpoint: Checkpoint):
    with pytest.raises(ModelError, match=r"tokenizer \(WordLevel, split by WhitespaceSplit\)"):
        check_gguf(tiny_checkpoint)
