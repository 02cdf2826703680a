"""Preference pairs as other tools write them (TRL, Anthropic's HH-RLHF, Argilla, Label Studio), and for two of them.

A format is a function from one row of a file (or of a hub dataset) to ``prompt``, ``chosen`` and ``rejected``, as
:class:`selfie.datasets.PreferenceDataset` checks them. It gives None for a row without a preference (a tie, no answer)
and raises ``ValueError(problem, remedy)`` for one that can't be used. ``names`` are the catalog's ``columns``: the
format's own names → those in the data, where they differ.

The other way round, an export is a function from ``prompt``, ``chosen`` and ``rejected`` to a row of the format.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from selfie.data.file_readers import Row

Format = Callable[[Row, Mapping[str, str]], Row | None]
Export = Callable[[Row], Row]
Messages = list[dict[str, str]]
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
SIDES = ("response_1", "response_2")


def from_trl(row: Row, names: Mapping[str, str]) -> Row:
    """TRL's preference type, whose prompt is a column or (implicit) the turns that both conversations begin with.

    https://huggingface.co/docs/trl/dataset_formats. An implicit prompt of plain texts is refused: TRL takes their
    longest common beginning, which ends in the middle of an answer where both answers begin alike.
    """
    prompt, chosen, rejected = (row.get(names.get(name, name)) for name in ("prompt", "chosen", "rejected"))
    if prompt is None:
        if not (_is_conversation(chosen) and _is_conversation(rejected)):
            raise ValueError(
                "it has no prompt, and chosen and rejected are no conversations that begin with it",
                "add a prompt, or use format: hh where the texts hold Human: and Assistant: turns",
            )
        prompt = _shared(chosen, rejected)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def from_hh(row: Row, names: Mapping[str, str]) -> Row:
    r"""HH-RLHF's: two dialogues as texts of ``\n\nHuman:`` and ``\n\nAssistant:`` turns that differ in the last one.

    https://huggingface.co/datasets/Anthropic/hh-rlhf (Bai et al. 2022, arXiv 2204.05862).
    """
    chosen, rejected = (_dialogue(row.get(names.get(name, name)), name) for name in ("chosen", "rejected"))
    return {"prompt": _shared(chosen, rejected), "chosen": chosen, "rejected": rejected}


def from_argilla(row: Row, names: Mapping[str, str]) -> Row | None:
    """Argilla's records as ``dataset.records.to_json`` writes them: ``fields``, and ``responses`` by question.

    https://docs.argilla.io/latest/reference/argilla/records/responses. The question is a ranking of the two responses
    (a list of names, the best first; of Argilla 1, ``[{"value": …, "rank": …}]``) or a label whose value is the better
    one's name. Names: ``prompt``, ``response_1`` and ``response_2`` are fields; ``question`` is ``preference`` unless
    the record has only one.
    """
    fields, responses = row.get("fields"), row.get("responses")
    if not isinstance(fields, dict) or not isinstance(responses, dict):
        raise ValueError("it has no `fields` and `responses`", "export it with dataset.records.to_json")
    question = names.get("question", "preference")
    answers = responses.get(question, next(iter(responses.values())) if len(responses) == 1 else None)
    if answers is None and responses:
        problem = f"it has no question {question!r}, but {', '.join(map(repr, responses))}"
        raise ValueError(problem, "name the question under `columns:`, as question")
    sides = {names.get(side, side): side for side in SIDES}
    verdicts = [_ranked(answer.get("value") if isinstance(answer, dict) else None, sides) for answer in answers or []]
    return _decided(fields, names, SIDES, verdicts)


def from_label_studio(row: Row, names: Mapping[str, str]) -> Row | None:
    """Label Studio's JSON export (not JSON-MIN) of a project with the ``Pairwise`` tag.

    https://labelstud.io/tags/pairwise and https://labelstud.io/guide/task_format. ``left`` is the first response.
    Names: ``prompt``, ``response_1`` and ``response_2`` are keys of a task's data, ``prompt``, ``answer1`` and
    ``answer2`` by default, as in its template for human preferences.
    """
    data, annotations = row.get("data"), row.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise ValueError("it has no `data` and `annotations`", "export the project as JSON, not as JSON-MIN or CSV")
    sides = {"left": SIDES[0], "right": SIDES[1]}
    verdicts = [
        sides.get(result.get("value", {}).get("selected"))
        for annotation in annotations
        if not annotation.get("was_cancelled")
        for result in annotation.get("result", [])
        if result.get("type") == "pairwise"
    ]
    return _decided(data, names, ("answer1", "answer2"), verdicts)


FORMATS: dict[str, Format] = {
    "trl": from_trl,
    "hh": from_hh,
    "argilla": from_argilla,
    "label_studio": from_label_studio,
}


def to_trl(row: Row) -> Row:
    """TRL's preference type, conversational: so that TRL lays the model's chat template over it."""
    answers = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    return {"prompt": _conversation(row["prompt"]), **answers}


def to_hh(row: Row) -> Row:
    """HH-RLHF's two dialogues; white space around a turn is not kept. Raises ValueError for what it can't say."""
    texts = {}
    for side in ("chosen", "rejected"):
        turns = [*_conversation(row["prompt"]), {"role": "assistant", "content": row[side]}]
        if any(turn["role"] not in _SPEAKERS for turn in turns):
            raise ValueError("it has a system message, which HH-RLHF has no word for", "export it as trl")
        if any(_TURN.search(turn["content"]) for turn in turns):
            raise ValueError("a text in it would be read as a Human: or Assistant: turn", "export it as trl")
        texts[side] = "".join(f"\n\n{_SPEAKERS[turn['role']]}: {turn['content'].strip()}" for turn in turns)
    return texts


EXPORTS: dict[str, Export] = {"trl": to_trl, "hh": to_hh}


def _conversation(prompt: Any) -> Messages:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(message, dict) for message in value)


def _shared(chosen: Any, rejected: Any) -> Messages:
    """All turns of two conversations but the last, which must be the same."""
    if chosen[:-1] != rejected[:-1] or not chosen[:-1]:
        raise ValueError("chosen and rejected differ before their last turn", "let both begin with the same turns")
    shared: Messages = chosen[:-1]
    return shared


def _dialogue(text: Any, name: str) -> Messages:
    if not isinstance(text, str):
        raise ValueError(f"`{name}` is no text", "write \\n\\nHuman: … \\n\\nAssistant: …, or use another format")
    before, *turns = _TURN.split(text if text.startswith("\n\n") else f"\n\n{text.lstrip()}")
    if before.strip() or not turns:
        raise ValueError(f"`{name}` does not begin with Human:", "write \\n\\nHuman: … \\n\\nAssistant: …")
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return [{"role": _ROLES[speaker], "content": content.strip()} for speaker, content in pairs]


def _ranked(value: Any, sides: Mapping[str, str]) -> str | None:
    """Which response a label or a ranking puts first; None for neither."""
    if isinstance(value, str):
        return sides.get(value)
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(entry, str) for entry in value):
        return next((sides[entry] for entry in value if entry in sides), None)
    ranks = {sides[entry["value"]]: entry["rank"] for entry in value if entry.get("value") in sides}
    first, second = (ranks.get(side) for side in SIDES)
    return None if first is None or second is None or first == second else min(ranks, key=lambda side: ranks[side])


def _decided(
    texts: Row, names: Mapping[str, str], defaults: tuple[str, str], verdicts: Iterable[str | None]
) -> Row | None:
    """The pair as its annotators say; None where nobody prefers one. Raises ValueError where they disagree."""
    said = set(verdicts)
    if len(said) > 1:
        raise ValueError("its annotators disagree", "decide which one is right and leave the other one out")
    better = next(iter(said), None)
    if better is None:
        return None
    responses = {side: texts.get(names.get(side, default)) for side, default in zip(SIDES, defaults, strict=True)}
    worse = SIDES[1 - SIDES.index(better)]
    return {
        "prompt": texts.get(names.get("prompt", "prompt")),
        "chosen": responses[better],
        "rejected": responses[worse],
    }
