"""From sampling to training only the sampled token ids count, never the text they decode to."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configuration import parameters
from selfie.config.parameters import GenerationParameters, JudgingParameters
from selfie.datasets import RowsDataset
from selfie.models.checkpoint import Checkpoint
from selfie.pipelines.generation.nodes import generate_responses
from selfie.pipelines.judging.nodes import judge_responses, score_responses
from selfie.pipelines.training.nodes import train_policy
from selfie.scoring.packed_rows import lay_out

LETTERS, SPECIALS = "abcdefgh", ["<pad>", "<eos>", "<user>", "<assistant>"]
PROMPTS, SAMPLES, BETA = 12, 3, 0.1
GENERATION = GenerationParameters(
    engine="transformers", samples_per_prompt=SAMPLES, temperature=1.0, top_p=1.0, max_new_tokens=16, batch_tokens=4000
)
JUDGING = JudgingParameters(judge="implicit_reward", batch_tokens=200)
TRAINING = parameters("test").training.model_copy(
    update={
        "batch_size": 4,
        "batch_tokens": 512,
        "noise_percentile": 20.0,
        "detector_window": 8,
        "detector_warmup": 0.0,
        "checkpoint_steps": 100,
    }
)


@pytest.fixture(scope="module")
def lossy_tokenizer() -> PreTrainedTokenizerFast:
    """Letters, every pair of letters as one token, and ``_``, which leaves no trace in the text.

    The ids of ``a b`` decode to "ab", which encodes to the single id of ``ab``.
    """
    pairs = list(product(LETTERS, LETTERS))
    tokens = [*SPECIALS, *LETTERS, *(a + b for a, b in pairs), "_"]
    model = Tokenizer(BPE({token: number for number, token in enumerate(tokens)}, pairs))
    model.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("_", "")])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template="{% for m in messages %}<user>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
    )


@dataclass(frozen=True)
class Witness(Checkpoint):
    """In fp32 always; keeps what each model that it loads is given to read, batch by batch."""

    read: list[list[torch.Tensor]] = field(default_factory=list)

    def load_model(self, dtype: torch.dtype, *others: Any) -> PreTrainedModel:
        model, batches = super().load_model(torch.float32), []
        self.read.append(batches)
        model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].cpu()))
        return model

    def take(self) -> list[list[torch.Tensor]]:
        """What was read since the last call, by model."""
        taken = self.read[:]
        self.read.clear()
        return taken


@dataclass(frozen=True)
class Stages:
    """What every stage made, read back from disk, and what the models read in it."""

    prompts: Dataset
    responses: Dataset
    scored: Dataset
    pairs: Dataset
    log: Dataset
    read: dict[str, list[list[torch.Tensor]]]
    models: dict[str, PreTrainedModel]


@pytest.fixture(scope="module")
def stages(
    make_checkpoint: Callable[..., Checkpoint],
    lossy_tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory,
) -> Stages:
    """One iteration by the pipelines' own nodes."""
    folder: Path = tmp_path_factory.mktemp("stages")
    policy, initial = (Witness(make_checkpoint(lossy_tokenizer, seed).source) for seed in (0, 1))
    read: dict[str, list[list[torch.Tensor]]] = {}

    def persist(name: str, rows: Dataset) -> Dataset:
        dataset = RowsDataset(str(folder / name))
        dataset.save(rows)
        read[name] = policy.take() + initial.take()
        return dataset.load()

    texts = ["".join(letters) for letters in list(product(LETTERS, repeat=4))[:: 8**4 // PROMPTS]][:PROMPTS]
    prompts = Dataset.from_list(
        [{"prompt_id": text, "messages": [{"role": "user", "content": text}], "iteration": 1} for text in texts]
    )
    responses = persist(
        "responses", generate_responses(prompts, policy, initial, folder / "sampling", GENERATION, "auto", 64, seed=0)
    )
    precision = {"scoring": "float32"}
    scoring = (precision, folder / "scoring", JUDGING.batch_tokens, JUDGING.shard_rows)
    scored = persist("scored", score_responses(responses, policy, initial, *scoring))
    pairs = persist("pairs", judge_responses(scored, folder / "judging", JUDGING, "auto", BETA, None))
    _, log = train_policy(pairs, policy, folder / "training", TRAINING, "auto", BETA, seed=0)
    log = persist("log", log)
    models = {name: c.load_model(torch.float32).cpu() for name, c in (("policy", policy), ("initial", initial))}
    return Stages(prompts, responses, scored, pairs, log, read, models)


def rows_of(batches: Iterable[torch.Tensor], expected: Counter) -> Counter:
    """Every row that a model read, end to end in lines; what is none of the expected ones stays in one piece."""
    rows: Counter = Counter()
    longest_first = sorted(expected, key=len, reverse=True)
    for line in (tuple(line) for batch in batches for line in batch.tolist()):
        rest = line
        while rest:
            row = next((row for row in longest_first if rest[: len(row)] == row), rest)
            rows[row] += 1
            rest = rest[len(row) :]
    return rows


def whole(rows: Iterable[list[int]]) -> Counter:
    counter: Counter = Counter()
    for row in rows:
        length = len(row)
        while length and row[length - 1] == 0:
            length -= 1
        counter[tuple(row[:length])] += 1
    return counter


def shared(prompts: list[list[int]], responses: list[list[int]]) -> list[list[int]]:
    """Each prompt once, with all of its responses."""
    rows = lay_out(prompts, responses, sharing=True)
    assert len(rows) < len(prompts)
    return [[*row.prompt, *(token for response in row.responses for token in response)] for row in rows]


def naive_log_prob(model: PreTrainedModel, prompt: list[int], response: list[int]) -> float:
    """From the full logits of one plain pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    predictions = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return predictions[torch.arange(len(response)), response].sum().item()


def test_the_tokenizer_loses_what_was_sampled(stages: Stages, lossy_tokenizer: PreTrainedTokenizerFast):
    """Else nothing here could fail: no response's text gives its ids back, with EOS or without."""
    eos = lossy_tokenizer.eos_token_id
    for row in stages.responses:
        encoded = lossy_tokenizer(row["response"], add_special_tokens=False)["input_ids"]
        assert row["response_ids"] not in (encoded, [*encoded, eos])
    assert {row["finish_reason"] for row in stages.responses} == {"stop", "length"}


def test_sampling_keeps_what_the_model_spoke(stages: Stages, lossy_tokenizer: PreTrainedTokenizerFast):
    """It read the prompts, padded left, then each token that it had sampled, but the sixteenth."""
    ((prompts, *steps),) = stages.read["responses"]
    assert len(steps) == GENERATION.max_new_tokens - 1
    read = torch.cat([prompts, *steps], dim=1).tolist()
    start = lossy_tokenizer.convert_tokens_to_ids("<user>")
    expected = whole(row["prompt_ids"] + row["response_ids"][: len(steps)] for row in stages.responses)
    assert whole(row[row.index(start) :] for row in read) == expected


def test_both_models_score_what_was_sampled(stages: Stages):
    """Policy and initial model read exactly prompt and sampled ids; the log-probs are those of the ids (1e-4)."""
    prompts, responses = stages.responses["prompt_ids"][:], stages.responses["response_ids"][:]
    expected = whole(shared(prompts, responses))
    assert [rows_of(batches, expected) for batches in stages.read["scored"]] == [expected, expected]
    for before, row in zip(stages.responses, stages.scored, strict=True):
        assert before.items() <= row.items()
        for name in ("policy", "initial"):
            naive = naive_log_prob(stages.models[name], row["prompt_ids"], row["response_ids"])
            assert row[f"{name}_log_prob"] == pytest.approx(naive, abs=1e-4)


def test_the_text_would_be_scored_otherwise(stages: Stages, lossy_tokenizer: PreTrainedTokenizerFast):
    """And on the text's own ids other responses would be preferred."""
    gains: dict[str, list[float]] = {}
    for row in stages.scored:
        encoded = lossy_tokenizer(row["response"], add_special_tokens=False)["input_ids"]
        ended = [*encoded, row["response_ids"][-1]] if row["finish_reason"] == "stop" else encoded
        policy, initial = (naive_log_prob(model, row["prompt_ids"], ended) for model in stages.models.values())
        assert abs(policy - row["policy_log_prob"]) > 0.1
        gains.setdefault(row["prompt_id"], []).append(policy - initial)
    chosen = {pair["prompt_id"]: pair["chosen_ids"] for pair in stages.pairs}
    by_text = {prompt: values.index(max(values)) for prompt, values in gains.items()}
    sampled = {(row["prompt_id"], row["sample"]): row["response_ids"] for row in stages.responses}
    assert sum(sampled[prompt, sample] != chosen[prompt] for prompt, sample in by_text.items()) > 2


def test_judging_pairs_the_sampled_ids(stages: Stages):
    """Of each prompt's samples the one that gained most and the one that gained least, ids with them."""
    assert stages.read["pairs"] == []  # no model
    for pair in stages.pairs:
        samples: list[dict[str, Any]] = [row for row in stages.scored if row["prompt_id"] == pair["prompt_id"]]
        samples.sort(key=lambda row: row["initial_log_prob"] - row["policy_log_prob"])
        for side, row in (("chosen", samples[0]), ("rejected", samples[-1])):
            assert pair["prompt_ids"] == row["prompt_ids"]
            assert pair[f"{side}_ids"] == row["response_ids"]
            assert pair[f"{side}"] == row["response"]
    assert len(stages.pairs) == PROMPTS


def test_training_reads_the_sampled_ids(stages: Stages):
    """The policy each pair once, and the reference, from which the detector extrapolates, the same."""
    prompts = [pair["prompt_ids"] for pair in stages.pairs for _ in range(2)]
    responses = [pair[f"{side}_ids"] for pair in stages.pairs for side in ("chosen", "rejected")]
    expected = whole(shared(prompts, responses))
    assert [rows_of(batches, expected) for batches in stages.read["log"]] == [expected, expected]
    assert sorted(stages.log["pair"][:]) == list(range(PROMPTS))
