"""Sampling with vLLM, in a process of its own that ends with its stage and takes its memory with it."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from tqdm.auto import tqdm

from selfie.checkpoints import Checkpoint, compute_device
from selfie.generation.engine import Request, Response, Sampling
from selfie.termination import end_with_the_parent

CHUNK = 512  # requests handed over at once: progress is shown and silence noticed between chunks
CPU_CACHE_BYTES = 2**30
CPU_STEP_TOKENS = 4096
COMPILING_PAYS = 150_000  # tokens (SmolLM2-135M, two cores: 58 s and 634 tokens/s compiled, 4 s and 515 without)
SILENCE_SECONDS = 1800.0
POLL_SECONDS = 5.0
MASK_31_BITS = 2**31 - 1  # vLLM's per-request seeds


class EngineError(RuntimeError):
    """The engine's process died or fell silent."""


class VllmEngine:
    """One vLLM engine on one checkpoint; token ids in, token ids out, one seeded request a sample.

    Args:
        checkpoint: the model that speaks.
        max_length: tokens of prompt and response together.
        tokens: about how many will be sampled: on a CPU few of them don't pay for compiling the model.
        silence: seconds without an answer after which the engine is given up.
    """

    def __init__(self, checkpoint: Checkpoint, max_length: int, tokens: int = 0, silence: float = SILENCE_SECONDS):
        self.checkpoint, self.max_length, self.silence = checkpoint, max_length, silence
        self.eager = compute_device().type == "cpu" and tokens < COMPILING_PAYS

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.checkpoint, self.max_length, self.eager), daemon=True
        )
        self.process.start()
        theirs.close()
        self._receive()  # the model is loaded
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.connection.close()
        self.process.join(timeout=30 if error is None else 1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """One response a request, in order; see :class:`selfie.generation.engine.Engine`."""
        responses: list[Response] = []
        with tqdm(total=len(requests), desc="generating (vLLM)", unit="response") as progress:
            for first in range(0, len(requests), CHUNK):
                chunk = requests[first : first + CHUNK]
                self.connection.send((chunk, sampling))
                responses.extend(self._receive())
                progress.update(len(chunk))
        return responses

    def _receive(self) -> Any:
        end = time.monotonic() + self.silence
        while not self.connection.poll(min(POLL_SECONDS, self.silence)):
            if not self.process.is_alive():
                raise EngineError(f"vLLM's process ended (exit code {self.process.exitcode}); its log is above")
            if time.monotonic() > end:
                self.process.kill()
                self.process.join()
                raise EngineError(f"vLLM has been silent for {self.silence / 60:.3g} minutes; its process was ended")
        try:
            answer = self.connection.recv()
        except EOFError as error:
            self.process.join(timeout=POLL_SECONDS)
            raise EngineError(f"vLLM's process ended (exit code {self.process.exitcode}); its log is above") from error
        if isinstance(answer, Exception):
            raise EngineError(f"vLLM failed: {answer}") from answer
        return answer


def _serve(connection: Connection, checkpoint: Checkpoint, max_length: int, eager: bool) -> None:
    """The engine's process: loads, then answers chunk after chunk until the connection closes."""
    # One process, so that nothing outlives it.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    end_with_the_parent()
    try:
        from vllm import LLM

        on_cpu: dict[str, Any] = {}
        if compute_device().type == "cpu":
            # vLLM 0.32 can't rewind a seeded sampler on a CPU, which it does for a prompt that it computes in pieces:
            # prompts are computed whole there. A step's room is vLLM's own, or one whole prompt.
            on_cpu = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(max_length, CPU_STEP_TOKENS)}
            # It would take 92% of the machine's memory for its cache.
            on_cpu |= {"kv_cache_memory_bytes": CPU_CACHE_BYTES}
        model = LLM(
            model=checkpoint.source,
            revision=checkpoint.revision,
            dtype="bfloat16",
            max_model_len=max_length,
            enable_prefix_caching=True,
            enforce_eager=eager,
            trust_remote_code=False,
            load_format="safetensors",
            **on_cpu,
        )
        connection.send(None)
        for requests, sampling in _chunks(connection):
            connection.send(_generate(model, requests, sampling))
    except Exception as error:
        connection.send(EngineError(f"{type(error).__name__}: {error}"))


def _chunks(connection: Connection) -> Iterator[tuple[Sequence[Request], Sampling]]:
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return


def _generate(model: Any, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
    from vllm import SamplingParams

    outputs = model.generate(
        [{"prompt_token_ids": request.prompt_ids} for request in requests],
        [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=request.seed & MASK_31_BITS,
                detokenize=False,
            )
            for request in requests
        ],
        use_tqdm=False,
    )
    return [
        Response(list(output.outputs[0].token_ids), "stop" if output.outputs[0].finish_reason == "stop" else "length")
        for output in outputs
    ]
