"""The initial model's support, measured on rows as they are judged."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from selfie.errors import DataError
from selfie.generation.sampling import beside_one_another, sampled_by
from selfie.judges.preference_pairs import build_pairs
from selfie.judges.support import beyond_bounds, measure_bounds


def scored(*responses: list[int], log_prob: float = -1.0) -> Dataset:
    rows = [
        {
            "iteration": 1,
            "prompt_id": "p",
            "prompt": "p",
            "prompt_ids": [9],
            "response": str(ids),
            "response_ids": ids,
            "initial_log_prob": log_prob * len(ids),
        }
        for ids in responses
    ]
    return Dataset.from_list(rows)


def test_a_loop_of_tokens_lies_beyond_what_the_initial_model_says():
    rng = np.random.default_rng(0)
    own = scored(*(rng.permutation(20)[: 4 + number % 8].tolist() for number in range(200)))
    bounds = measure_bounds(own, 1.0)
    new = scored([1, 2, 3, 4, 5, 6], [1, 2, 1, 2, 1, 2], list(range(19)))
    assert beyond_bounds(new, bounds).tolist() == [False, True, True]


def test_an_unlikely_response_lies_beyond_too():
    own = scored(*([number, number + 1, number + 2] for number in range(50)))
    assert beyond_bounds(scored([1, 2, 3], log_prob=-9.0), measure_bounds(own, 1.0)).tolist() == [True]


def test_what_lies_outside_takes_no_part_in_a_pair():
    rows = scored([1], [2], [3], [4])
    (pair,) = build_pairs(rows, torch.tensor([9.0, 2.0, 5.0, -9.0]), outside=torch.tensor([True, False, False, True]))
    assert (pair["chosen_ids"], pair["rejected_ids"]) == ([3], [2])


def test_what_the_token_limit_cut_is_rejected_at_most():
    rows = scored([1], [2], [3], [4])
    cut = torch.tensor([True, False, False, True])
    (pair,) = build_pairs(rows, torch.tensor([9.0, 2.0, 5.0, -9.0]), eligible=~cut)
    assert (pair["chosen_ids"], pair["rejected_ids"]) == ([3], [4])


def test_a_prompt_with_one_response_inside_gives_no_pair():
    with pytest.raises(DataError, match="outside the initial model's support"):
        build_pairs(scored([1], [2]), torch.tensor([1.0, 2.0]), outside=torch.tensor([True, False]))


def test_samples_of_two_models_stand_beside_one_another():
    def part(name: str, samples: int) -> Dataset:
        return Dataset.from_list(
            [
                {"prompt_id": prompt, "sample": sample, "response": f"{name} {prompt} {sample}"}
                for prompt in ("p", "q")
                for sample in range(samples)
            ]
        )

    both = beside_one_another({"policy": part("policy", 2), "initial": part("initial", 1)})
    assert both["response"][:] == ["policy p 0", "policy p 1", "initial p 0", "policy q 0", "policy q 1", "initial q 0"]
    assert both["sample"][:] == [0, 1, 2, 0, 1, 2]
    assert sampled_by(both, "initial")["response"][:] == ["initial p 0", "initial q 0"]
