"""Sampling with vLLM, in a worker program of its own that ends with its stage and takes its memory with it."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from tqdm.auto import tqdm

from selfie.errors import EngineError, MemoryExhaustedError, UserError
from selfie.errors.disk_and_memory import MEMORY_WORDS
from selfie.generation.engine import Request, Response, Sampling
from selfie.models.checkpoint import Checkpoint, compute_device
from selfie.runtime.child_program import ChildProgram

WORKER = "selfie.generation.vllm_worker"
CPU_CACHE_BYTES = 2**30
CPU_STEP_TOKENS = 4096
# A thread that waits for another sleeps: spinning, it would keep the other from the core where cores are shared.
CPU_THREADS = {"OMP_WAIT_POLICY": "passive"}
COMPILING_PAYS = 150_000  # tokens (SmolLM2-135M, two cores: 58 s and 634 tokens/s compiled, 4 s and 515 without)
SILENCE_SECONDS = 1800.0
MASK_31_BITS = 2**31 - 1  # vLLM's per-request seeds
NO_MEMORY = (*MEMORY_WORDS, "vailable memory", "Free memory on device")  # the last two are vLLM's
REMEDIES: dict[type[UserError], str] = {
    EngineError: "run it again: finished shards are kept; or do without vLLM: generation.engine=transformers",
    MemoryExhaustedError: "end what else takes memory, lower max_length, or set generation.engine=transformers",
}


class VllmEngine:
    """One vLLM worker on one checkpoint; token ids in, token ids out, one seeded request a sample.

    Several can work side by side, each in an environment of its own.

    Args:
        checkpoint: the model to sample from.
        max_length: tokens of prompt and response together.
        tokens: about how many will be sampled: on a CPU few of them don't pay for compiling the model.
        dtype: in which the model computes, ``bfloat16`` or ``float32``.
        stops: the tokens that end a response.
        environment: variables of the worker's beside this process's, such as CUDA_VISIBLE_DEVICES.
        silence: seconds without a sign of life (a step of vLLM's) after which the worker is given up.

    Raises:
        EngineError: the worker died or fell silent; names its log, which is kept only then.
        MemoryExhaustedError: it died for want of memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        max_length: int,
        tokens: int = 0,
        dtype: str = "bfloat16",
        stops: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        silence: float = SILENCE_SECONDS,
    ):
        self.checkpoint, self.max_length, self.dtype, self.silence = checkpoint, max_length, dtype, silence
        self.environment = environment or {}
        self.stops = list(stops)
        self.on_cpu = compute_device().type == "cpu"
        self.eager = self.on_cpu and tokens < COMPILING_PAYS

    def __enter__(self) -> Self:
        environment = {**(CPU_THREADS if self.on_cpu else {}), **os.environ, **self.environment}
        self.worker = ChildProgram(WORKER, environment=environment, log_name="selfie-vllm")
        self.process = self.worker.process
        try:
            self._send(self._settings())
            self._receive()  # the model is loaded
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, in order; see :class:`selfie.generation.engine.Engine`."""
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": self.stops,
        }
        self._send(([(request.prompt_ids, request.seed & MASK_31_BITS) for request in requests], settings))
        responses: dict[int, Response] = {}
        with tqdm(total=len(requests), desc="generating (vLLM)", unit="response") as progress:
            while len(responses) < len(requests):
                finished = self._receive()
                responses |= {number: Response(token_ids, reason) for number, token_ids, reason in finished}
                progress.update(len(finished))
        return [responses[number] for number in range(len(requests))]

    def _settings(self) -> dict[str, Any]:
        """What vLLM loads, and how."""
        on_cpu: dict[str, Any] = {}
        if self.on_cpu:
            # vLLM 0.32 can't rewind a seeded sampler on a CPU, which it does for a prompt that it computes in pieces:
            # prompts are computed whole there. A step's room is vLLM's own, or one whole prompt.
            on_cpu = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(self.max_length, CPU_STEP_TOKENS)}
            # It would take 92% of the machine's memory for its cache.
            on_cpu |= {"kv_cache_memory_bytes": CPU_CACHE_BYTES}
        return {
            "model": self.checkpoint.source,
            "revision": self.checkpoint.revision,
            "dtype": self.dtype,
            "max_model_len": self.max_length,
            "enable_prefix_caching": True,
            "enforce_eager": self.eager,
            "trust_remote_code": False,
            "generation_config": "vllm",  # not the model's own: penalties there would change what is sampled
            "load_format": "safetensors",
            **on_cpu,
        }

    def _send(self, message: Any) -> None:
        """Plain lists, dictionaries, numbers and strings: the worker knows no class of ours."""
        try:
            self.worker.connection.send(message)
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> list[tuple[int, list[int], Literal["stop", "length"]]]:
        try:
            if self.worker.connection.poll(self.silence):
                return self.worker.connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        raise self._failure(f"it has been silent for {self.silence / 60:.3g} minutes and was ended")

    def _died(self) -> UserError:
        problem = self.worker.how_it_ended()
        killed = self.process.returncode == -signal.SIGKILL
        return self._failure(problem, MemoryExhaustedError if killed else EngineError)

    def _failure(self, problem: str, kind: type[UserError] = EngineError) -> UserError:
        """Ends the worker and keeps its log."""
        log = self.worker.keep_log()
        if any(words in log for words in NO_MEMORY):
            kind = MemoryExhaustedError
        return kind("vLLM", f"{problem}; {log}", REMEDIES[kind])
