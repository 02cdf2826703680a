"""Writes the prompts of ``--env instructions``: the demo's questions, each with an exact instruction at its end.

``python -m benchmarks.instruction_prompts``. Kinds take turns, and so do what a kind asks and its wordings. Prompts for
evaluation have kinds that no others have, and of the kinds that all have other words: what is asked is not what was
trained on.
"""

import json
from pathlib import Path

import click

from selfie.judges.gold.instructions import KINDS, SEEN

RAW = Path("data/01_raw")
NUMBERS = {
    "bullets": ["2", "3", "4"],
    "numbered": ["2", "3", "4"],
    "most_words": ["20", "30", "40"],
    "sentences": ["2", "3"],
}
TRAINED = NUMBERS | {
    "begins": ["In short", "My advice", "To begin with", "The truth is"],
    "includes": ["because", "usually", "important", "example"],
}
EVALUATED = NUMBERS | {
    "begins": ["Put simply", "The answer is", "As a rule"],
    "includes": ["often", "reason", "people"],
    "excludes": ["can", "important", "many"],
}
"""Kind → what it asks; kinds that are not here ask for nothing."""
SPLITS = {"seed_prompts": (132, TRAINED), "prompts": (192, TRAINED), "evaluation_prompts": (144, EVALUATED)}
"""File → how many of its prompts, and what is asked."""


@click.command()
def main() -> None:
    """Writes the three files."""
    for name in SPLITS:
        lines = (json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in prompts_of(name))
        (RAW / "instructions" / f"{name}.jsonl").write_text("".join(lines))


def prompts_of(name: str) -> list[str]:
    """The prompts of a split; evaluation has all kinds, the others those of training."""
    count, asked = SPLITS[name]
    questions = [json.loads(line)["prompt"] for line in (RAW / f"{name}.jsonl").read_text().splitlines()][:count]
    kinds = list(KINDS if name == "evaluation_prompts" else SEEN)
    return [f"{question} {_instruction(kinds, number, asked)}" for number, question in enumerate(questions)]


def _instruction(kinds: list[str], number: int, asked: dict[str, list[str]]) -> str:
    turn, place = divmod(number, len(kinds))
    values = asked.get(kinds[place], [""])
    return KINDS[kinds[place]].write(turn // len(values), values[turn % len(values)])


if __name__ == "__main__":
    main()
