"""vLLM as a program of its own, ``python -m selfie.generation.vllm_worker``; ``VllmEngine`` starts it and talks to it.

On its socket come what to load, then what to sample; back go the responses of every step of vLLM's that ended some,
and an empty list for a step that ended none: whoever waits sees that it is alive. What it prints is its log. It ends
when the socket closes, which it does however the process at its other end ends.

It imports nothing of ours but the socket: without triton, vLLM for CPUs looks through every loaded module, and some do
not bear it.
"""

import os
import traceback
from collections.abc import Iterator
from typing import Any

from selfie.runtime.parent_socket import ParentSocket


def main() -> None:
    """Loads, then answers until the socket closes."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process, so that nothing outlives it
    parent = ParentSocket()
    try:
        settings = parent.receive()
        from vllm import LLM

        model = LLM(**settings)
        parent.send([])
        while True:
            requests, sampling = parent.receive()
            for finished in _sample(model, requests, sampling):
                parent.send(finished)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # vLLM's threads would go on; and the log ends with the error


def _sample(
    model: Any, requests: list[tuple[list[int], int]], sampling: dict[str, Any]
) -> Iterator[list[tuple[int, list[int], str]]]:
    """After every step: number, token ids and finish reason (``stop`` or ``length``) of what it ended.

    Args:
        model: the ``LLM``.
        requests: prompts as token ids, and their seeds.
        sampling: ``temperature``, ``top_p``, ``max_tokens``, ``stop_token_ids``.
    """
    from vllm import SamplingParams

    ids = model.enqueue(
        [{"prompt_token_ids": prompt} for prompt, _ in requests],
        [SamplingParams(**sampling, seed=seed, detokenize=False) for _, seed in requests],
        use_tqdm=False,
    )
    # vLLM adds random letters to the number that it gives a request, and answers under the number.
    numbers = {name.split("-")[0]: number for number, name in enumerate(ids)}
    while model.llm_engine.has_unfinished_requests():
        ended = [output for output in model.llm_engine.step() if output.finished]
        yield [(numbers[o.request_id], list(o.outputs[0].token_ids), _reason(o.outputs[0])) for o in ended]


def _reason(completion: Any) -> str:
    return "stop" if completion.finish_reason == "stop" else "length"


if __name__ == "__main__":
    main()
