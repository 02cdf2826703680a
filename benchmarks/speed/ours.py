"""What this project does, stage by stage, as its pipelines call it."""

import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset

from benchmarks.speed.workload import SAMPLES, Loaded, Measurement, Setting, Workload, requests_of, stopwatch
from selfie.config.execution import ExecutionParameters
from selfie.config.training import TrainingParameters
from selfie.generation.engine import Request
from selfie.generation.engine_choice import open_engine
from selfie.generation.sampling import sample_responses
from selfie.models.checkpoint import Checkpoint
from selfie.scoring.log_probs import score
from selfie.storage.shards import Shards
from selfie.training.train import train

TIMES = 4  # as much work for workers, which take some ten seconds to start and to load
BETA, BATCH_SIZE, MAX_LENGTH, MANY_TOKENS = 0.1, 8, 4096, 10**7


def generation(setting: Setting, engine: str) -> Measurement:
    """Sampling, the engine loaded and warm, as in a run of many tokens."""
    requests = requests_of(setting)
    arguments = (engine, setting.checkpoint, setting.batch_tokens, MAX_LENGTH, MANY_TOKENS, setting.sampling_in)
    with open_engine(*arguments) as opened:
        opened.generate(requests[:2], setting.sampling)
        with stopwatch() as measured:
            responses = opened.generate(requests, setting.sampling)
    return measured(sum(len(response.token_ids) for response in responses))


def judging(setting: Setting) -> Measurement:
    """Log-probs of all responses under two models, which are loaded and warm."""
    workload, checkpoint = Workload.load(setting), Loaded(setting.model)
    judge(setting, checkpoint, workload.first(2))
    with stopwatch() as measured:
        log_probs = judge(setting, checkpoint, workload)
    return measured(workload.tokens, log_probs=log_probs)


def judge(setting: Setting, checkpoint: Checkpoint, workload: Workload) -> list[float]:
    """The policy's log-probs; the initial model's are computed too."""
    policy, _ = (
        score(
            checkpoint,
            workload.prompts,
            workload.responses,
            setting.batch_tokens,
            name,
            arithmetic=setting.scoring_in,
        ).tolist()
        for name in ("policy", "initial")
    )
    return policy


def training(setting: Setting) -> Measurement:
    """One epoch with self-refinement and de-coupled detection in every step, from loading to saving."""
    workload = Workload.load(setting)
    with stopwatch() as measured:
        train_pairs(setting, workload)
    return measured(workload.pairs().tokens)


def train_pairs(setting: Setting, workload: Workload) -> None:
    """The first response to each prompt is the chosen one, the second the rejected one."""
    pairs = {
        "pair": list(range(len(workload.prompts) // SAMPLES)),
        "prompt_ids": workload.prompts[::SAMPLES],
        "chosen_ids": workload.responses[::SAMPLES],
        "rejected_ids": workload.responses[1::SAMPLES],
    }
    with tempfile.TemporaryDirectory() as folder:
        train(setting.checkpoint, Dataset.from_dict(pairs), parameters(setting), BETA, 1, 0, Path(folder))


def parameters(setting: Setting) -> TrainingParameters:
    """The demo's, but for a detector that looks at every pair (in a run: at 90% of them)."""
    return TrainingParameters(
        learning_rate=1e-5,
        epochs=1,
        batch_size=BATCH_SIZE,
        batch_tokens=setting.batch_tokens // 16,
        learning_rate_warmup=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        loss="noise_aware",
        label_smoothing=0.1,
        noise_percentile=10.0,
        extrapolation=[0.5],
        detector_window=32,
        detector_warmup=0.0,
    )


def generation_by(setting: Setting, workers: int) -> Measurement:
    """Sampling by so many local workers of one thread each, with all that starts and loads."""
    torch.set_num_threads(1)  # a single worker is this very process
    lines = Path(setting.prompts_file).read_text().splitlines()[: setting.prompts]
    rows = [{"prompt_id": str(number), "messages": json.loads(line)["messages"]} for number, line in enumerate(lines)]
    with tempfile.TemporaryDirectory() as folder, stopwatch() as measured:
        responses = sample_responses(
            setting.checkpoint,
            Dataset.from_list(rows),
            TIMES * SAMPLES,
            setting.sampling,
            engine="transformers",
            batch_tokens=setting.batch_tokens,
            max_length=MAX_LENGTH,
            purpose="bench",
            seed=0,
            shards=_shards(folder, workers),
            arithmetic=setting.sampling_in,
        )
        tokens = sum(map(len, responses["response_ids"]))
    return measured(tokens)


def judging_by(setting: Setting, workers: int) -> Measurement:
    """Log-probs of all responses under two models by so many local workers, with all that starts and loads."""
    torch.set_num_threads(1)  # a single worker is this very process
    workload = Workload.load(setting)
    texts = (TIMES * workload.prompts, TIMES * workload.responses, setting.batch_tokens)
    with tempfile.TemporaryDirectory() as folder, stopwatch() as measured:
        for name in ("policy", "initial"):
            shards = _shards(folder, workers).within(name)
            score(setting.checkpoint, *texts, name, shards, arithmetic=setting.scoring_in)
    return measured(TIMES * workload.tokens)


def _shards(folder: str, workers: int) -> Shards:
    """Sixteen responses each, so that two workers end at about the same time."""
    return Shards(Path(folder), 4 * SAMPLES, ExecutionParameters(workers=workers))


def iteration(setting: Setting, engine: str) -> Measurement:
    """Sampling, judging, training, with everything that starts and loads."""
    requests = requests_of(setting)
    with stopwatch() as measured:
        arguments = (engine, setting.checkpoint, setting.batch_tokens, MAX_LENGTH, 0, setting.sampling_in)
        with open_engine(*arguments) as opened:
            workload = sampled(requests, [r.token_ids for r in opened.generate(requests, setting.sampling)])
        judge(setting, setting.checkpoint, workload)
        train_pairs(setting, workload)
    return measured(workload.tokens)


def sampled(requests: list[Request], responses: list[list[int]]) -> Workload:
    """A workload of what was sampled just now."""
    return Workload([request.prompt_ids for request in requests], responses)
