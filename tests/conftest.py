"""A tiny real model, so that whatever can run for real does."""

import gc
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DO_NOT_TRACK"] = "1"
# Of what tests start, too: on few cores, threads that spin wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from layers import layer_of
from runs import PROJECT, copy_of_run, made_once, run, write_to
from selfie.models.checkpoint import Checkpoint
from selfie.synthetic.language import all_prompts, make_tokenizer

CATALOG = """
seed_preferences:
  type: selfie.datasets.PreferenceDataset
  filepath: ${globals:data}/01_raw/seed_preferences.jsonl
prompts:
  type: selfie.datasets.PromptDataset
  filepath: ${globals:data}/01_raw/prompts.jsonl
evaluation_prompts:
  type: selfie.datasets.PromptDataset
  filepath: ${globals:data}/01_raw/evaluation_prompts.jsonl
initial_model:
  type: selfie.datasets.CheckpointDataset
  filepath: ${globals:model}
"""

torch.set_num_threads(1)
# Tests that fork: torch makes its thread pool anew in the child, and two threads that do so at once lose it.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
settings.register_profile("selfie", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("selfie")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``make bad-inputs`` sets it."""
    parser.addoption("--write", action="store_true", help="write docs/bad_inputs.md from what the errors said")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with its layer. The slow ones come first, so that several processes end at the same time."""
    for item in items:
        item.add_marker(layer_of(item.nodeid.removeprefix("tests/")))
    items.sort(key=lambda item: item.get_closest_marker("unit") is not None)


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage, of which every stage has one, looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The synthetic language's: 77 tokens, one a word."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """``make_checkpoint(tokenizer, seed=0, **changes)``: a random Llama of width 32, saved with its tokenizer.

    Its weights are large enough for next-token distributions far from uniform.
    """

    def make(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> Checkpoint:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128,
            "initializer_range": 0.2,
        }
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape | changes, **ids))
        folder = tmp_path_factory.mktemp("models") / "tiny"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Checkpoint(str(folder))

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: Callable[..., Checkpoint], tokenizer: PreTrainedTokenizerFast) -> Checkpoint:
    """A random Llama with the synthetic language's vocabulary."""
    return make_checkpoint(tokenizer)


class Fp32Checkpoint(Checkpoint):
    """Loads in fp32 whatever is asked for: bf16's rounding differs with the shape of the batch."""

    def load_model(self, dtype: torch.dtype, device: torch.device | None = None) -> PreTrainedModel:
        return super().load_model(torch.float32, device)


@pytest.fixture(scope="session")
def fp32_checkpoint(tiny_checkpoint: Checkpoint) -> Checkpoint:
    """The tiny checkpoint without bf16's rounding."""
    return Fp32Checkpoint(tiny_checkpoint.source)


@pytest.fixture
def tiny_model(tiny_checkpoint: Checkpoint) -> LlamaForCausalLM:
    """A fresh copy in fp32 on the CPU."""
    return LlamaForCausalLM.from_pretrained(tiny_checkpoint.source, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def own_project(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Checkpoint) -> Path:
    """A user's own: ``conf/`` with the environment ``mine``, three good files in ``data/01_raw``, ``model/``."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    mine = Path(shutil.copytree(folder / "conf/test", folder / "conf/mine"))
    (mine / "catalog.yml").write_text(CATALOG)
    shape = (mine / "globals.yml").read_text().replace("preparation: synthetic", "preparation: none")
    (mine / "globals.yml").write_text(f"{shape}data: {folder / 'data'}\nmodel: {folder / 'model'}\n")
    (mine / "parameters.yml").write_text((mine / "parameters.yml").read_text() + "max_set_aside: 0.0\n")
    shutil.copytree(tiny_checkpoint.source, folder / "model")
    raw = folder / "data/01_raw"
    raw.mkdir(parents=True)
    prompts = iter(all_prompts()[1:])
    pair = {"chosen": "w00 w01", "rejected": "w02"}
    for name, count, rest in (("seed_preferences", 8, pair), ("prompts", 81, {}), ("evaluation_prompts", 6, {})):
        rows = [json.dumps({"prompt": next(prompts), **rest}) for _ in range(count)]
        (raw / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def own_copy(own_project: Path, tmp_path: Path) -> Path:
    """A copy of the user's own that may be changed."""
    folder = Path(shutil.copytree(own_project, tmp_path / "project"))
    shape = folder / "conf/mine/globals.yml"
    shape.write_text(shape.read_text().replace(str(own_project), str(folder)))
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's, for tests to copy: it takes seconds to make one."""
    folder = made_once(tmp_path_factory, "database", lambda folder: MlflowClient(f"sqlite:///{folder}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """What a whole run in ``conf/test`` left, MLflow's database too, for tests to read, or to copy and change."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            write_to(folder, patch, empty_database)
            run()

    return made_once(tmp_path_factory, "finished_run", make)


@pytest.fixture
def run_data(finished_run: Path, empty_database: Path, tmp_path: Path) -> Iterator[Path]:
    """A whole run's data, a copy that may be changed."""
    bootstrap_project(PROJECT)
    with copy_of_run(finished_run, tmp_path, empty_database) as data:
        yield data


@pytest.fixture
def executed(caplog: pytest.LogCaptureFixture) -> Callable[[], dict[str, str]]:
    """``executed()``: the steps that ran since the last call, in their order, and why."""
    caplog.set_level(logging.INFO, logger="selfie.app.runner")

    def read() -> dict[str, str]:
        lines = [r.getMessage() for r in caplog.records if r.name == "selfie.app.runner" and "/" in r.getMessage()[:4]]
        caplog.clear()
        return {line.split(" ", 1)[1].split(": ")[0]: line.split(": ", 1)[1] for line in lines}

    return read


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """A real S3 server."""
    pytest.importorskip("s3fs", reason="needs s3fs: the extra `s3`")
    pytest.importorskip("moto", reason="needs moto: the extra `dev`")
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra `dev`)")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
