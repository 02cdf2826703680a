"""TRL's DPO trainer with the noise-aware loss, on exactly the token ids that were sampled.

What differs from ``trl.DPOTrainer`` 1.16:

- no tokenisation: rows carry ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, and no EOS is appended;
- the reference's summed log-probs come with the rows (the judge has already computed them), so a reference model is
  loaded only if the detector extrapolates from it;
- the loss is SPA's (arXiv 2406.04412): pairs that the detector flags have a share α of their label turned round;
- gradient accumulation is exact: every pair of an optimiser step weighs the same, however the step is split into
  micro-batches and processes; τ is set before the step, so that the flags don't depend on the split either;
- checkpoints hold the detector's window and the log of the pairs too, and exist only once their manifest is there.
"""

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from selfie.parameters import TrainingParameters
from selfie.preference.log_probs import Head, extrapolated_token_log_probs, sum_by_sequence
from selfie.preference.losses import chosen_nll, conservative_loss, dpo_margin, noise_aware_loss, robust_loss
from selfie.preference.noise import NoiseDetector
from selfie.scoring.sequence_log_probs import pad_right, response_log_probs, response_positions
from selfie.termination import finishing
from selfie.training.checkpointing import Guard, NoLastCheckpoint, diverged, read_state, seal_checkpoint

logger = logging.getLogger(__name__)


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pairs → one padded batch: the chosen rows first, then the rejected, and the pairs' own columns."""
    prompts = [row["prompt_ids"] for row in rows]
    responses = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
    input_ids, attention_mask, response_mask = pad_right(prompts + prompts, responses, torch.device("cpu"))
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "response_mask": response_mask,
        "pair": torch.tensor([row["pair"] for row in rows]),
        "human": torch.tensor([row.get("human", False) for row in rows]),
        "weight": torch.tensor([row.get("weight", 1.0) for row in rows]),
        "counts": torch.ones(len(rows), dtype=torch.bool),
        "reference_log_probs": torch.tensor(
            [row["reference_chosen_log_prob"] for row in rows] + [row["reference_rejected_log_prob"] for row in rows]
        ),
    }


class NoiseAwareTrainer(DPOTrainer):
    """See the module's docstring.

    Args:
        model: the policy, fp32 master weights.
        reference: the model it starts from, frozen; needed only where α > 0 and λ > 0.
        pairs: rows with ``prompt_ids``, ``chosen_ids``, ``rejected_ids``, ``reference_chosen_log_prob``,
            ``reference_rejected_log_prob`` and ``pair`` (a number that names the pair in the log); optionally
            ``human``, for labels that are never flagged, and ``weight`` of the preference loss (1 unless said).
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
        model.forward = partial(response_log_probs, model)
        self.parameters, self.extrapolation = parameters, extrapolation
        self.detector = NoiseDetector(parameters.noise_percentile, parameters.detector_window)
        self.mean_tokens = sum(map(len, pairs["chosen_ids"])) / len(pairs)
        self.threshold = -math.inf
        self.pairs_in_step = 0
        self.pair_log: list[dict[str, Any]] = []
        self.add_callback(NoLastCheckpoint())
        self.add_callback(Guard())

    def go_on_from(self, checkpoint: Path | None) -> None:
        """Trains to the end, from the beginning or from a sealed checkpoint as if nothing had happened."""
        if checkpoint is not None:
            state = read_state(checkpoint)
            self.detector.margins.extend(state["detector_margins"])
            self.pair_log.extend(state["pair_log"])
            logger.info("training goes on from %s", checkpoint.name)
        with finishing():
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: a checkpoint is scratch, and TRL's card would go beside it."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            seal_checkpoint(folder, {"detector_margins": list(self.detector.margins), "pair_log": self.pair_log})
        self.accelerator.wait_for_everyone()

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """The optimiser step's micro-batches; counts their pairs over all processes and sets τ for them.

        An epoch's last micro-batches are filled up with pairs from its beginning until every process has as many;
        those don't count.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        epoch = self.accelerator.gradient_state
        if epoch.end_of_dataloader and epoch.remainder > 0:
            counts = batches[-1]["counts"]
            place = torch.arange(len(counts), device=counts.device) + self.accelerator.process_index * len(counts)
            counts &= place < epoch.remainder
        pairs = torch.stack([batch["counts"].sum() for batch in batches]).sum()
        self.pairs_in_step = int(self.accelerator.gather(pairs).sum())
        self.threshold = self.detector.threshold()
        return batches, items

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        rows = {name: inputs[name] for name in ("input_ids", "attention_mask", "response_mask")}
        log_probs, hidden = model(**rows)
        margin = self._margin(log_probs, inputs)
        detector_margin = self._detector_margin(rows, hidden.detach(), inputs)
        flagged = torch.zeros_like(margin, dtype=torch.bool)
        trusted = self._steps_done() < self.parameters.trust_warmup
        if detector_margin is not None:
            self.detector.observe(self._gather(detector_margin, inputs))
            if not trusted:
                flagged = (detector_margin < self.threshold) & ~inputs["human"]
        losses = self._losses(margin, flagged) * inputs["weight"]
        if self.parameters.nll_weight > 0:
            losses = losses + self.parameters.nll_weight * chosen_nll(log_probs.chunk(2)[0], self.mean_tokens)
        if not losses.isfinite().all():
            broken = inputs["pair"][~losses.isfinite()].tolist()
            raise diverged("the loss", self.state.global_step, Path(self._get_output_dir(None)), broken)
        self._record(inputs, losses, margin, detector_margin, flagged, trusted)
        # Processes average their gradients, so each contributes its share of the step's sum times their number.
        return (losses * inputs["counts"]).sum() * self.accelerator.num_processes / self.pairs_in_step

    def _gather(self, values: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """One value a pair, [pairs of this process] → [pairs of all processes that count]."""
        return self.accelerator.gather(values.detach())[self.accelerator.gather(inputs["counts"])]

    def _losses(self, margin: Tensor, flagged: Tensor) -> Tensor:
        alpha = self.parameters.alpha
        if self.parameters.loss == "conservative":
            return conservative_loss(margin, alpha)
        if self.parameters.loss == "robust":
            return robust_loss(margin, alpha)
        return noise_aware_loss(margin, flagged, alpha)

    def _margin(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        chosen, rejected = log_probs.chunk(2)
        reference_chosen, reference_rejected = inputs["reference_log_probs"].chunk(2)
        return dpo_margin(chosen, rejected, reference_chosen, reference_rejected, self.beta)

    def _detector_margin(
        self, rows: dict[str, Tensor], policy_hidden: Tensor, inputs: dict[str, Tensor]
    ) -> Tensor | None:
        """m̃, shape [pairs]; None while no label is questioned.

        The window fills in the second half of the trusting warm-up: in the first step every margin is zero, and
        those near it say nothing about the labels.
        """
        if not self.parameters.detects_noise or self._steps_done() < self.parameters.trust_warmup / 2:
            return None
        policy = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), self.compute_loss_context_manager():
            reference_hidden = policy_hidden
            reference_head = policy_head = Head.of(policy)
            if self.ref_model is not None:
                reference_head = Head.of(self.ref_model)
                backbone = self.ref_model.base_model(
                    input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], use_cache=False
                )
                reference_hidden = response_positions(
                    backbone.last_hidden_state, rows["input_ids"], rows["response_mask"]
                )[0]
            predicts = rows["response_mask"][:, 1:]
            values = extrapolated_token_log_probs(
                policy_hidden,
                policy_head,
                reference_hidden,
                reference_head,
                rows["input_ids"][:, 1:][predicts],
                self.extrapolation,
            )
        return self._margin(sum_by_sequence(values, predicts), inputs)

    def _steps_done(self) -> float:
        return self.state.global_step / self.state.max_steps

    def _record(
        self,
        inputs: dict[str, Tensor],
        losses: Tensor,
        margin: Tensor,
        detector_margin: Tensor | None,
        flagged: Tensor,
        trusted: bool,
    ) -> None:
        detector = torch.full_like(margin, math.nan) if detector_margin is None else detector_margin
        columns = [self._gather(x, inputs) for x in (inputs["pair"], losses, margin, detector, flagged)]
        for number, loss, m, m_detector, flag in zip(*(column.tolist() for column in columns), strict=True):
            self.pair_log.append(
                {
                    "pair": number,
                    "step": self.state.global_step,
                    "loss": loss,
                    "margin": m,
                    "detector_margin": None if math.isnan(m_detector) else m_detector,
                    "flagged": flag,
                    "trusted": trusted or detector_margin is None,
                }
            )
