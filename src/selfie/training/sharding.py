"""A training in shards: weights, gradients and moments lie spread over its processes, by accelerate's FSDP2.

A process holds a part of every weight and gathers a layer while it computes. Gathering waits for all processes, so that
each of them makes as many forward passes as the others. Pairs, margins, flags and losses are those of one process.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.utils.environment import parse_flag_from_env
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from transformers import PreTrainedModel

from selfie.errors import ConfigurationError
from selfie.preference.token_log_probs import Head
from selfie.training.trainer import NoiseAwareTrainer

WEIGHTS = "pytorch_model_fsdp_0"  # what transformers calls them in a checkpoint in shards


def in_shards() -> bool:
    """Whether accelerate's launcher started this process for a training in shards."""
    return parse_flag_from_env("ACCELERATE_USE_FSDP")


def loading_device() -> torch.device | None:
    """Where a model is loaded that is to be spread: from there it moves to this process's GPU a layer at a time."""
    return torch.device("cpu") if in_shards() else None


class ShardedTrainer(NoiseAwareTrainer):
    """The trainer in one of several processes that hold a part of the models each."""

    def __init__(self, model: PreTrainedModel, reference: PreTrainedModel | None, *others: Any, **named: Any):
        self.spread = reference
        for one in filter(None, (model, reference)):
            # The first sum between layers is of embeddings, which are gathered in bf16 where products are bf16's.
            one.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.float())
        super().__init__(model, reference, *others, **named)

    def create_accelerator_and_postprocess(self) -> None:
        """Says how weights are gathered, and spreads the reference's; the policy's follow when training begins.

        As they are stored, or for bf16 products in bf16, with gradients summed up in float32. What goes from layer to
        layer stays in float32. TRL would spread the reference as one piece, to be gathered in whole.
        """
        _allow_on_a_cpu(PartialState())
        super().create_accelerator_and_postprocess()
        mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        self.accelerator.state.fsdp_plugin.mixed_precision_policy = mixed if self.args.bf16 else None
        if self.spread is not None:
            fsdp2_prepare_model(self.accelerator, self.spread)

    def _micro_batches(self, sizes: list[int]) -> list[list[int]]:
        batches = super()._micro_batches(sizes)
        numbers = self.accelerator.gather(torch.tensor([len(batches)], device=self.accelerator.device))
        return as_many(batches, int(numbers.max()))

    def _without_sync(self, model: Any) -> AbstractContextManager:
        return nullcontext()  # there is no place for a whole gradient

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Tensor:
        _gather_head(self.policy)
        return super()._compute_loss(model, inputs, return_outputs)

    def _head(self, model: PreTrainedModel) -> Head:
        _gather_head(model)
        return super()._head(model)


def _allow_on_a_cpu(state: PartialState) -> None:
    """Accelerate shards between accelerators alone. torch does it between CPUs too: slow, and enough to test it."""
    if state.device.type == "cpu":
        state.distributed_type = DistributedType.MULTI_GPU


def _gather_head(model: PreTrainedModel) -> None:
    """The language-model head's weights are used beside the layers: nothing else gathers them."""
    for module in (model, model.get_output_embeddings()):
        if isinstance(module, FSDPModule):
            module.unshard()


def as_many(batches: list[list[int]], wanted: int) -> list[list[int]]:
    """The batches, the largest of them cut in halves until there are as many as wanted; no item is lost."""
    batches = list(batches)
    while len(batches) < wanted:
        largest = max(range(len(batches)), key=lambda number: len(batches[number]))
        batch = batches[largest]
        batches[largest : largest + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return batches


def gathered_weights(model: Any) -> dict[str, Tensor] | None:
    """All that was trained, in the first process's CPU memory; None where it is not in shards. All processes ask."""
    if not in_shards():
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    whole: Any = get_model_state_dict(model, options=options)
    return whole


def check_checkpoint(folder: Path | None) -> None:
    """Raises ConfigurationError where the checkpoint is in shards and the training is not, or the other way round."""
    if folder is None or (folder / WEIGHTS).is_dir() == in_shards():
        return
    left, now = ("a whole model", "shards") if in_shards() else ("shards", "a whole model")
    raise ConfigurationError(
        "parameter execution.accelerate_config",
        f"the training was begun with {left} in each process, and would go on with {now}",
        f"set it as it was; or remove {folder} to begin the training anew",
    )
