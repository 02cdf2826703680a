"""What a user would otherwise run: ``model.generate``, raw vLLM, a padded judging pass, TRL's own DPO trainer."""

import gc
import tempfile
from typing import Any, Literal, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.speed.ours import BATCH_SIZE, BETA, MAX_LENGTH, sampled
from benchmarks.speed.workload import SAMPLES, Loaded, Measurement, Setting, Workload, requests_of, stopwatch
from selfie.generation.engine import Request
from selfie.models.checkpoint import Checkpoint, compute_device


def generation_hf(setting: Setting, batch: int) -> Measurement:
    """``model.generate`` in the order of the prompts, the model loaded and warm."""
    requests = requests_of(setting)
    model = setting.checkpoint.load_model(setting.sampling_in.dtype)
    _generate(setting, model, requests[:2], batch)
    with stopwatch() as measured:
        responses = _generate(setting, model, requests, batch)
    return measured(sum(map(len, responses)))


@torch.inference_mode()
def _generate(setting: Setting, model: Any, requests: list[Request], batch: int) -> list[list[int]]:
    tokenizer = setting.checkpoint.load_tokenizer()
    tokenizer.padding_side = "left"
    sampling, responses = setting.sampling, []
    torch.manual_seed(0)
    for first in range(0, len(requests), batch):
        rows = [{"input_ids": request.prompt_ids} for request in requests[first : first + batch]]
        padded = tokenizer.pad(rows, return_tensors="pt").to(model.device)
        output = model.generate(
            **padded,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        for ids in output[:, padded["input_ids"].shape[1] :].tolist():
            end = ids.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in ids else len(ids)
            responses.append(ids[:end])
    return responses


def generation_vllm(setting: Setting) -> Measurement:
    """``vllm.LLM.generate`` on token ids, all prompts in one call, the engine warm."""
    requests = requests_of(setting)
    model = _vllm(setting)
    _generate_vllm(setting, model, requests[:2])
    with stopwatch() as measured:
        responses = _generate_vllm(setting, model, requests)
    return measured(sum(map(len, responses)))


def _vllm(setting: Setting) -> Any:
    from vllm import LLM

    on_cpu = compute_device().type == "cpu"
    return LLM(
        model=setting.model,
        dtype=cast(Literal["bfloat16", "float32"], str(setting.sampling_in)),
        max_model_len=MAX_LENGTH,
        kv_cache_memory_bytes=2**30 if on_cpu else None,  # on a CPU it would take 92% of the memory
    )


def _generate_vllm(setting: Setting, model: Any, requests: list[Request]) -> list[list[int]]:
    from vllm import SamplingParams

    sampling = setting.sampling
    outputs = model.generate(
        [{"prompt_token_ids": request.prompt_ids} for request in requests],
        SamplingParams(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_new_tokens),
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]


def judging_padded(setting: Setting, batch: int) -> Measurement:
    """Both models' log-probs, a fixed number of rows at a time in the order of the data; loaded and warm."""
    workload, checkpoint = Workload.load(setting), Loaded(setting.model)
    judge_padded(setting, checkpoint, workload.first(2), batch)
    with stopwatch() as measured:
        log_probs = judge_padded(setting, checkpoint, workload, batch)
    return measured(workload.tokens, log_probs=log_probs)


def judge_padded(setting: Setting, checkpoint: Checkpoint, workload: Workload, batch: int) -> list[float]:
    """The policy's log-probs, in our judge's arithmetic; the initial model's are computed too."""
    log_probs: list[list[float]] = []
    for _ in ("policy", "initial"):
        log_probs.append([])
        model = checkpoint.load_model(setting.scoring_in.dtype)
        with setting.scoring_in.products():
            for first in range(0, len(workload.prompts), batch):
                part = slice(first, first + batch)
                log_probs[-1] += _padded_log_probs(model, workload.prompts[part], workload.responses[part])
        del model
        gc.collect()
    return log_probs[0]


@torch.inference_mode()
def _padded_log_probs(model: PreTrainedModel, prompts: list[list[int]], responses: list[list[int]]) -> list[float]:
    rows = [p + r for p, r in zip(prompts, responses, strict=True)]
    length = max(map(len, rows))
    input_ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=model.device)
    attention_mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=model.device)
    logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    picked = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(2, input_ids[:, 1:, None])[..., 0]
    return [
        picked[i, len(p) - 1 : len(p) + len(r) - 1].sum().item()
        for i, (p, r) in enumerate(zip(prompts, responses, strict=True))
    ]


def training_trl(setting: Setting, batch: int, precompute: bool) -> Measurement:
    """TRL's ``DPOTrainer``, one epoch, from loading to saving."""
    workload = Workload.load(setting)
    with stopwatch() as measured:
        train_trl(setting, workload, batch, precompute)
    return measured(workload.pairs().tokens)


def train_trl(setting: Setting, workload: Workload, batch: int, precompute: bool) -> None:
    """As a user would, with the policy's path; the token ids are given, so that both sides train on the same."""
    from trl import DPOConfig, DPOTrainer

    class GivenIds(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
            return dataset

    pairs = {
        "prompt_ids": workload.prompts[::SAMPLES],
        "chosen_ids": workload.responses[::SAMPLES],
        "rejected_ids": workload.responses[1::SAMPLES],
    }
    on_cpu = compute_device().type == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            beta=BETA,
            learning_rate=1e-5,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=BATCH_SIZE // batch,
            precompute_ref_log_probs=precompute,
            precompute_ref_batch_size=batch,
            bf16=setting.mixed,
            gradient_checkpointing=False,  # TRL's default is slower
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            max_length=None,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
        )
        trainer = GivenIds(
            setting.model,
            args=arguments,
            train_dataset=Dataset.from_dict(pairs),
            processing_class=setting.checkpoint.load_tokenizer(),
        )
        trainer.train()
        trainer.save_model()


def iteration_stock(setting: Setting, engine: str, generation_batch: int, training_batch: int) -> Measurement:
    """Sampling with vLLM or ``generate``, a padded judging pass at batch 1, TRL with a reference model."""
    requests = requests_of(setting)
    with stopwatch() as measured:
        if engine == "vllm":
            responses = _generate_vllm(setting, _vllm(setting), requests)
        else:
            responses = _generate(
                setting, setting.checkpoint.load_model(setting.sampling_in.dtype), requests, generation_batch
            )
        gc.collect()
        workload = sampled(requests, responses)
        judge_padded(setting, setting.checkpoint, workload, batch=1)
        train_trl(setting, workload, training_batch, precompute=False)
    return measured(workload.tokens)
