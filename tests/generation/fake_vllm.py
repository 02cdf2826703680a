"""Stands for vLLM in its worker, where it is `vllm`; the name of the model says what it does."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

HOURS = 36_000


class SamplingParams:
    def __init__(self, **settings):
        self.settings = settings


class LLM:
    """One response a step: the prompt, the request's seed and the device's number."""

    def __init__(self, model, **settings):
        self.model, self.settings, self.llm_engine = model, settings, self
        self.steps, self.ids, self.waiting = count(1), count(), []
        if "SEEN" in os.environ:
            seen = {"modules": list(sys.modules), "settings": settings, "environment": dict(os.environ)}
            Path(os.environ["SEEN"]).write_text(json.dumps(seen))
        if model == "slow to load":
            time.sleep(HOURS)
        if model == "broken":
            raise RuntimeError(f"no such architecture, {os.environ['HF_TOKEN']}")
        if model == "too large":
            raise ValueError("No available memory for the cache blocks.")

    def enqueue(self, prompts, params, use_tqdm):
        added = [(str(next(self.ids)), p["prompt_token_ids"], q.settings) for p, q in zip(prompts, params, strict=True)]
        self.waiting += added
        return [f"{number}-a1b2c3d4" for number, *_ in added]

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        number = next(self.steps)
        if self.model == "falls silent" and number > 1:
            subprocess.Popen(["sleep", str(HOURS)])
            time.sleep(HOURS)
        if self.model == "dies":
            os._exit(17)
        if self.model == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.model in ("slow", "slower"):
            time.sleep(0.4)
            if self.model == "slower" and number % 6:
                return [SimpleNamespace(finished=False)]
        name, prompt, settings = self.waiting.pop()
        token_ids = (*prompt, settings["seed"], int(os.environ.get("CUDA_VISIBLE_DEVICES", "0")))
        reason = "length" if len(token_ids) == settings["max_tokens"] else "stop"
        answer = SimpleNamespace(token_ids=token_ids, finish_reason=reason)
        return [SimpleNamespace(finished=True, request_id=name, outputs=[answer])]
