"""TRL's DPO trainer with the noise-aware loss, on exactly the token ids that were sampled.

What differs from ``trl.DPOTrainer`` 1.16:

- no tokenisation: rows carry ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, and no EOS is appended;
- the reference is computed beside the policy, micro-batch by micro-batch and in the same arithmetic, so that margins
  begin at exactly zero; log-probs from an earlier pass would differ from the policy's by rounding;
- the loss is SPA's (arXiv 2406.04412): pairs flagged as noisy get label smoothing α;
- with adapters the frozen weights are the reference;
- a prompt is computed once for its two responses, and a step's pairs go through the model sorted by length, in
  micro-batches of so many tokens;
- gradient accumulation is exact: every pair of an optimiser step weighs the same, however the step is split into
  micro-batches and processes; τ is set before the step, so that the flags don't depend on the split either;
- checkpoints hold the detector's window and the log of the pairs too, and exist only once their manifest is there.
"""

import logging
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from selfie.config.plug_ins import resolve
from selfie.config.training import TrainingParameters
from selfie.errors.disk_and_memory import is_out_of_memory
from selfie.models.batching import token_batches
from selfie.preference.losses import LOSSES, chosen_nll, dpo_margin
from selfie.preference.noise_detection import NoiseDetector
from selfie.preference.token_log_probs import Head, extrapolated_token_log_probs, sum_by_sequence, token_log_probs
from selfie.runtime.memory import free_memory
from selfie.runtime.signals import finish_step_on_sigterm
from selfie.scoring.attention import recomputing_alike, share_prompts
from selfie.scoring.log_probs import response_hidden, response_log_probs
from selfie.scoring.packed_rows import Rows, lay_out, stack
from selfie.training.checkpointing import Guard, NoLastCheckpoint, read_state, seal_checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A row of the training set, as it stays until a micro-batch is laid out."""

    number: int
    prompt_ids: list[int]
    responses: tuple[list[int], list[int]]  # chosen, rejected
    human: bool
    weight: float

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Pair":
        """From the trainer's columns."""
        return cls(
            row["pair"],
            row["prompt_ids"],
            (row["chosen_ids"], row["rejected_ids"]),
            row.get("human", False),
            row.get("weight", 1.0),
        )


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The pairs, and which of them count: see :meth:`NoiseAwareTrainer.get_batch_samples`."""
    return {"pairs": [Pair.of(row) for row in rows], "counts": torch.ones(len(rows), dtype=torch.bool)}


class NoiseAwareTrainer(DPOTrainer):
    """See the module's docstring.

    Args:
        model: the policy, fp32 weights; with adapters (``peft_config``) the frozen ones.
        reference: the model it starts from, frozen; None with adapters, whose base it is.
        pairs: rows with ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and ``pair`` (a number that names the pair in
            the log); optionally ``human``, for labels that are never flagged, and ``weight`` of the preference loss (1
            unless said).
        parameters: the training's parameters.
        extrapolation: λ of this iteration.

    ``pair_log`` holds one record a pair and epoch after training.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        pairs: Dataset,
        args: DPOConfig,
        parameters: TrainingParameters,
        extrapolation: float,
        **kwargs: Any,
    ):
        super().__init__(model, ref_model=reference, args=args, train_dataset=pairs, data_collator=collate, **kwargs)
        self.loss_is_scaled_for_ga = True  # _compute_loss divides by the optimiser step's pairs itself
        trained: Any = self.model  # the same, or with adapters its wrapper
        for weight in trained.parameters():
            if weight.requires_grad:  # TRL casts adapters beside 4-bit weights to bf16, which would swallow small steps
                weight.data = weight.data.float()
        self.policy = model  # adapters are put into it
        if parameters.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": recomputing_alike})
        for module in (*model.modules(), *(reference.modules() if reference is not None else ())):
            if hasattr(module, "attention_dropout"):  # TRL turns off all other dropout
                module.attention_dropout = 0.0
        trained.forward = partial(response_log_probs, model)
        if reference is not None:
            reference.forward = partial(response_hidden, reference)
        self.parameters, self.extrapolation = parameters, extrapolation
        self.preference_loss = resolve(parameters.loss, LOSSES)
        longest = _longest(pairs)
        self.sharing = share_prompts(model, longest) and (reference is None or share_prompts(reference, longest))
        self.detector = NoiseDetector(parameters.noise_percentile, parameters.detector_window)
        self.mean_tokens = sum(map(len, pairs["chosen_ids"])) / len(pairs)
        self.batch_tokens = parameters.batch_tokens
        self.threshold = -math.inf
        self.pairs, self.pairs_in_step = len(pairs), 0
        self.outcomes: list[Tensor] = []  # of the step's micro-batches: loss, m, m̃ and z of each pair
        self.pair_log: list[dict[str, Any]] = []
        self.add_callback(NoLastCheckpoint())
        self.guard = Guard()
        self.add_callback(self.guard)

    def resume_from(self, checkpoint: Path | None) -> None:
        """Trains to the end, from the beginning or from a sealed checkpoint; the result is the same."""
        if checkpoint is not None:
            state = read_state(checkpoint)
            self.detector.margins.extend(state["detector_margins"])
            self.pair_log.extend(state["pair_log"])
            self.batch_tokens = state["batch_tokens"]
            logger.info("training goes on from %s", checkpoint.name)
        with finish_step_on_sigterm():
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: a checkpoint is scratch, and TRL's card would go beside it."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process adds its random state
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            state = {"detector_margins": list(self.detector.margins), "pair_log": self.pair_log}
            seal_checkpoint(folder, {**state, "batch_tokens": self.batch_tokens})
        self.accelerator.wait_for_everyone()

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """The optimiser step's micro-batches; counts their pairs over all processes and sets τ for them.

        An epoch's last micro-batches are filled up with pairs from its beginning until every process has as many;
        those don't count.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        # Accelerate 1.15 knows the remainder, too, but not in the epoch in which a training goes on.
        remainder = self.pairs % (self.args.per_device_train_batch_size * self.accelerator.num_processes)
        if self.accelerator.gradient_state.end_of_dataloader and remainder:
            counts = batches[-1]["counts"]
            place = torch.arange(len(counts), device=counts.device) + self.accelerator.process_index * len(counts)
            counts &= place < remainder
        pairs = torch.stack([batch["counts"].sum() for batch in batches]).sum()
        self.pairs_in_step = int(self.accelerator.gather(pairs).sum())
        self.threshold = self.detector.threshold()
        return batches, items

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over this process's pairs, a micro-batch after the other, and their records.

        Where memory runs out, the step begins anew with micro-batches of half the size, which later steps keep.
        """
        sizes = [self._size(pair) for pair in inputs["pairs"]]
        while True:
            batches = self._micro_batches(sizes)
            try:
                return self._accumulate(batches, model, inputs, num_items_in_batch)
            except (RuntimeError, MemoryError) as error:
                # Several processes would have to begin anew together.
                alone = max(map(len, batches)) == 1 or self.accelerator.num_processes > 1
                if alone or not is_out_of_memory(error):
                    raise
            model.zero_grad()
            free_memory()  # outside of the handler, where the error no longer holds the micro-batch's tensors
            self.batch_tokens = max(len(batch) * sizes[batch[0]] for batch in batches if len(batch) > 1) // 2
            logger.warning(
                "out of memory in training, step %d: going on with batch_tokens %d",
                self.state.global_step + 1,
                self.batch_tokens,
            )

    def _accumulate(
        self, batches: list[list[int]], model: Any, inputs: dict[str, Any], num_items_in_batch: Any
    ) -> Tensor:
        """Processes may need different numbers of micro-batches: they meet in the last one's backward pass."""
        pairs, counts = inputs["pairs"], inputs["counts"]
        self.outcomes = []
        total = torch.zeros((), device=counts.device)
        for number, batch in enumerate(batches, start=1):
            micro_batch = {"pairs": [pairs[i] for i in batch], "counts": counts[batch]}
            with nullcontext() if number == len(batches) else self._without_sync(model):
                total += super().training_step(model, micro_batch, num_items_in_batch)
        order = torch.tensor([i for batch in batches for i in batch], device=counts.device)
        self._record(pairs, counts, torch.cat(self.outcomes)[order.argsort()])
        return total

    def _micro_batches(self, sizes: list[int]) -> list[list[int]]:
        return list(token_batches(sizes, self.batch_tokens))

    def _without_sync(self, model: Any) -> AbstractContextManager:
        return self.accelerator.no_sync(model)

    def _size(self, pair: Pair) -> int:
        rows = lay_out([pair.prompt_ids] * 2, pair.responses, self.sharing)
        return len(rows) * max(map(len, rows))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: transformers' estimate knows of neither shared prompts nor padding."""
        return 0

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Tensor:
        pairs: list[Pair] = inputs["pairs"]
        device = inputs["counts"].device
        prompts = [pair.prompt_ids for pair in pairs for _ in pair.responses]
        responses = [response for pair in pairs for response in pair.responses]
        rows = stack(lay_out(prompts, responses, self.sharing), self.sharing, device)
        with self.accelerator.autocast():
            log_probs, hidden = model(rows)
        reference, extrapolated = self._reference_log_probs(hidden.detach(), rows)
        margin = self._margin(log_probs, reference)
        # NaN before the detector looks.
        detector_margin = torch.full_like(margin.detach(), math.nan)
        if self._detector_looks():
            detector_margin = self._margin(log_probs.detach() if extrapolated is None else extrapolated, reference)
        human = torch.tensor([pair.human for pair in pairs], device=device)
        # NaN, where the detector has not looked, is below no threshold.
        flagged = (detector_margin < self.threshold) & ~human & (not self._in_detector_warmup())
        losses = self.preference_loss(margin, flagged, self.parameters.label_smoothing)
        losses = losses * torch.tensor([pair.weight for pair in pairs], device=device)
        if self.parameters.nll_weight > 0:
            losses = losses + self.parameters.nll_weight * chosen_nll(log_probs[::2], self.mean_tokens)
        self.guard.examine(losses, [pair.number for pair in pairs])
        columns = (losses, margin, detector_margin, flagged)
        self.outcomes.append(torch.stack([column.detach().float() for column in columns], dim=1))
        # Processes average their gradients, so each contributes its share of the step's sum times their number.
        return (losses * inputs["counts"]).sum() * self.accelerator.num_processes / self.pairs_in_step

    def _margin(self, log_probs: Tensor, reference: Tensor) -> Tensor:
        """m, shape [pairs], of summed log-probs, chosen and rejected in turn, [2 · pairs] each."""
        (chosen, rejected), (of_chosen, of_rejected) = (
            sums.view(-1, 2).unbind(dim=1) for sums in (log_probs, reference)
        )
        return dpo_margin(chosen, rejected, of_chosen, of_rejected, self.beta)

    @torch.no_grad()
    def _reference_log_probs(self, policy_hidden: Tensor, rows: Rows) -> tuple[Tensor, Tensor | None]:
        """Summed log-probs [responses] under the reference and, where the detector extrapolates, under h̃.

        The reference is computed beside the policy, on the same micro-batch in the same arithmetic: as long as their
        weights are equal, so are their log-probs, to the bit.
        """
        reference = self.policy if self.ref_model is None else self.ref_model
        with self.accelerator.autocast():
            if self.ref_model is None:
                with self.accelerator.unwrap_model(self.model).disable_adapter():
                    hidden = response_hidden(reference, rows)
            else:
                hidden = reference(rows)
            if not self._detector_looks() or self.extrapolation == 0:
                values = token_log_probs(hidden, rows.tokens, self._head(reference))
                return sum_by_sequence(values, rows.response, rows.responses), None
            extrapolated, values = extrapolated_token_log_probs(
                policy_hidden, self._head(self.policy), hidden, self._head(reference), rows.tokens, self.extrapolation
            )
        sums = (sum_by_sequence(part, rows.response, rows.responses) for part in (values, extrapolated))
        return next(sums), next(sums)

    def _head(self, model: PreTrainedModel) -> Head:
        return Head.of(model)

    def _detector_looks(self) -> bool:
        """Its window fills in the second half of the warm-up: at first margins are zero and say nothing of labels."""
        return self.parameters.detects_noise and self._steps_done() >= self.parameters.detector_warmup / 2

    def _steps_done(self) -> float:
        return self.state.global_step / self.state.max_steps

    def _in_detector_warmup(self) -> bool:
        return self._steps_done() < self.parameters.detector_warmup

    def _record(self, pairs: list[Pair], counts: Tensor, outcome: Tensor) -> None:
        """Logs the step's pairs of all processes, and shows the detector their margins; ``outcome``: [pairs, 4]."""
        numbers = torch.tensor([pair.number for pair in pairs], device=counts.device)
        counts, numbers, outcome = (self.accelerator.gather(x) for x in (counts, numbers, outcome))
        numbers, outcome = numbers[counts], outcome[counts]
        observed = outcome[:, 2][~outcome[:, 2].isnan()]
        self.detector.observe(observed)
        for number, (loss, margin, detector_margin, flagged) in zip(numbers.tolist(), outcome.tolist(), strict=True):
            seen = not math.isnan(detector_margin)
            self.pair_log.append(
                {
                    "pair": number,
                    "step": self.state.global_step,
                    "loss": loss,
                    "margin": margin,
                    "detector_margin": detector_margin if seen else None,
                    "flagged": bool(flagged),
                    "trusted": self._in_detector_warmup() or not seen,
                }
            )


def _longest(pairs: Dataset) -> int:
    """Tokens of the longest prompt with its longer response."""
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    lengths = zip(*(map(len, pairs[column]) for column in columns), strict=True)
    return max(prompt + max(chosen, rejected) for prompt, chosen, rejected in lengths)
