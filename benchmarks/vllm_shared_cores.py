"""How fast vLLM samples on a CPU alone, and beside a process that keeps one core busy.

    kedro run --pipelines preparation && python benchmarks/vllm_shared_cores.py float32

The worker has the environment of this command: docs/performance.md has the figures, with which variables they came.
"""

import subprocess
import sys
import time

from selfie.checkpoints import Checkpoint

from selfie.generation.engine import Request, Sampling
from selfie.generation.vllm_engine import VllmEngine

MODEL = Checkpoint("data/06_models/smollm2-135m-instruct")
RESPONSES, TOKENS, PASSES = 64, 8, 3


def speed(engine: VllmEngine, number: int) -> float:
    """Tokens a second of one pass."""
    seeds = range(number * RESPONSES, (number + 1) * RESPONSES)
    requests = [Request([1, *(500 + (7 * seed + place) % 999 for place in range(11))], seed) for seed in seeds]
    began = time.monotonic()
    responses = engine.generate(requests, Sampling(temperature=0.8, top_p=1.0, max_new_tokens=TOKENS))
    return sum(len(response.token_ids) for response in responses) / (time.monotonic() - began)


if __name__ == "__main__":
    with VllmEngine(MODEL, max_length=512, dtype=sys.argv[1]) as engine:
        speed(engine, 0)  # warm
        alone = [speed(engine, number) for number in range(PASSES)]
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        shared = [speed(engine, number) for number in range(PASSES)]
        busy.kill()
        busy.wait()
    for name, speeds in (("alone", alone), ("shared", shared)):
        print(name, ", ".join(f"{tokens:.0f}" for tokens in speeds), "tokens/s")
