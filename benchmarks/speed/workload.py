"""What is measured: prompts of 20 to 200 tokens, and the responses that the model itself sampled to each."""

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from selfie.generation.engine import Request, Sampling
from selfie.generation.engine_choice import open_engine
from selfie.models.chat_template import render
from selfie.models.checkpoint import Checkpoint, compute_device
from selfie.models.precision import Arithmetic, sampling_arithmetic, scoring_arithmetic, trains_mixed
from selfie.runtime.random_seeds import derive_seed

SAMPLES = 4  # as the demo


@dataclass(frozen=True)
class Setting:
    """The model, the size of the slice, and where the workload is kept."""

    model: str
    prompts_file: str
    prompts: int
    max_new_tokens: int
    batch_tokens: int
    folder: str

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.model)

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=0.8, top_p=1.0, max_new_tokens=self.max_new_tokens)

    @property
    def sampling_in(self) -> Arithmetic:
        """What ``auto`` gives this model on this device; the rivals sample in it too."""
        return sampling_arithmetic("auto", self.checkpoint)

    @property
    def scoring_in(self) -> Arithmetic:
        """The finest that a run may choose here; the rivals judge in it too."""
        return scoring_arithmetic("auto", self.checkpoint)

    @property
    def mixed(self) -> bool:
        """Whether training, ours and the rivals', multiplies in bf16."""
        return trains_mixed("auto", self.checkpoint)

    @property
    def file(self) -> Path:
        return Path(self.folder) / "workload.json"


class Loaded(Checkpoint):
    """Loads once and gives the same model again, so that loading is not measured."""

    def load_model(self, dtype: torch.dtype, *others: Any) -> PreTrainedModel:
        if not hasattr(self, "model"):
            object.__setattr__(self, "model", super().load_model(dtype, *others))
        return self.model  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Workload:
    """Token ids, one prompt a response: a prompt's responses stand together."""

    prompts: list[list[int]]
    responses: list[list[int]]

    @classmethod
    def load(cls, setting: Setting) -> "Workload":
        return cls(**json.loads(setting.file.read_text()))

    def first(self, responses: int) -> "Workload":
        """A part of it, to warm up with."""
        return Workload(self.prompts[:responses], self.responses[:responses])

    def pairs(self) -> "Workload":
        """The first two responses to each prompt: chosen and rejected."""
        kept = [i for i in range(len(self.prompts)) if i % SAMPLES < 2]  # noqa: PLR2004
        return Workload([self.prompts[i] for i in kept], [self.responses[i] for i in kept])

    @property
    def tokens(self) -> int:
        """Useful ones, a prompt counted with each of its responses."""
        return sum(map(len, self.prompts)) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Measurement:
    """Of one process: wall-clock seconds, useful tokens, and its peak memory in bytes.

    ``details`` has the processor's seconds too: on a machine that others use they tell more.
    """

    seconds: float
    tokens: int
    peak_memory: int
    details: dict[str, Any] = field(default_factory=dict)


def requests_of(setting: Setting) -> list[Request]:
    """Several a prompt, for the first prompts of the file."""
    tokenizer = setting.checkpoint.load_tokenizer()
    lines = Path(setting.prompts_file).read_text().splitlines()[: setting.prompts]
    prompts = [render(tokenizer, json.loads(line)["messages"]) for line in lines]
    return [Request(ids, derive_seed(0, "bench", i, k)) for i, ids in enumerate(prompts) for k in range(SAMPLES)]


def make_workload(setting: Setting) -> Measurement:
    """Samples the responses that judging and training are measured on."""
    requests = requests_of(setting)
    opening = open_engine("auto", setting.checkpoint, setting.batch_tokens, 4096, arithmetic=setting.sampling_in)
    with stopwatch() as measured, opening as engine:
        responses = [response.token_ids for response in engine.generate(requests, setting.sampling)]
    workload = Workload([request.prompt_ids for request in requests], responses)
    setting.file.parent.mkdir(parents=True, exist_ok=True)
    setting.file.write_text(json.dumps(asdict(workload)))
    return measured(workload.tokens)


@contextmanager
def stopwatch() -> Iterator[Callable[..., Measurement]]:
    """``measured(tokens)`` after the block gives its seconds, and the process's peak memory until then."""
    seconds = processor_seconds = -1.0

    def measured(tokens: int, **details: Any) -> Measurement:
        return Measurement(seconds, tokens, _peak_memory(), details | {"processor_seconds": processor_seconds})

    _wait_for_device()
    started, processor_started = time.perf_counter(), time.process_time()
    yield measured
    _wait_for_device()
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor_started


def _wait_for_device() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _peak_memory() -> int:
    if compute_device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
