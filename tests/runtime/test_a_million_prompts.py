"""A million prompts under a memory limit of 1 GiB: checked, dealt out, planned in shards and made into pairs."""

import json
import os
import subprocess
import sys
from pathlib import Path

COUNT, LIMIT = 1_000_000, 2**30
PROGRAM = """
import resource, sys
from pathlib import Path

import torch

from configuration import parameters
from selfie.data.stored_rows import StoredRows
from selfie.data.validation import outliers, screen
from selfie.datasets import PromptDataset
from selfie.datasets.rows import RowsDataset
from selfie.judges.preference_pairs import build_pairs
from selfie.pipelines.generation.nodes import split_prompts
from selfie.storage.shards import Shards

folder, count, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def kib(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(name + ":"))


# The system's own limit counts what is reserved, too: libraries reserve far more than they use, all in the beginning.
room = limit // 1024 - kib("RssAnon")
assert room > 0
resource.setrlimit(resource.RLIMIT_DATA, (1024 * (kib("VmData") + room),) * 2)

found = {name: PromptDataset(str(folder / f"{name}.jsonl")) for name in ("prompts", "evaluation_prompts")}
rows, set_aside = screen(found, parameters(), None)
assert ({name: len(kept) for name, kept in rows.items()}, len(set_aside)) == (
    {"prompts": count - 1, "evaluation_prompts": 20},
    1,
)
outliers("prompts", rows["prompts"])
splits = split_prompts(found["prompts"].load(), [count // 2, count // 2 - 1], 0, 2)
RowsDataset(str(folder / "split")).save(splits[0])
assert len(Shards(folder / "shards", 512).missing(2 * count)) == -(-2 * count // 512)
responses = StoredRows.of(
    {"iteration": 1, "prompt_id": str(n // 2), "prompt": "Why?", "prompt_ids": [1, 2], "response": "So.",
     "response_ids": [3, n % 2], "policy_log_prob": -1.0}
    for n in range(2 * count)
).as_dataset()
pairs = build_pairs(responses, torch.arange(2 * count) % 7, shards=Shards(folder / "pairs", 4096))
assert len(pairs) == count
print(kib("RssAnon") / 1024)
"""


def in_words(number: int) -> str:
    """Seven, so that most of a prompt's n-grams are its own."""
    return " ".join(f"{digit}{place}" for place, digit in enumerate(f"{number:07}"))


def test_a_million_prompts_need_less_than_a_gigabyte(tmp_path: Path):
    """All that the data pass through that grows with them; one prompt repeats an evaluation prompt and is set aside."""
    asked = "Why does the river {0} bend to the left?"
    for name, numbers in (("evaluation_prompts", range(20)), ("prompts", range(19, COUNT + 19))):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps({"prompt": asked.format(in_words(n))}) + "\n" for n in numbers)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(COUNT), str(LIMIT)]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=found)
    assert done.returncode == 0, done.stderr[-2000:]
