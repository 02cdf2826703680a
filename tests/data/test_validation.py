"""Data validation: what it sets aside, what it only logs, and that clean data pass untouched."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from kedro.framework.project import pipelines

from configuration import parameters
from runs import PROJECT, session
from selfie.app.hooks import PreflightHooks
from selfie.config.parameters import SyntheticParameters
from selfie.data.validation import outliers, screen
from selfie.datasets import PreferenceDataset, PromptDataset, RecordDataset
from selfie.errors import DataError
from selfie.pipelines.preparation.nodes import make_language

NAMES = ("seed_preferences", "prompts", "evaluation_prompts")


def datasets(folder: Path, **rows: list[dict]) -> dict[str, RecordDataset]:
    """The user's three data sets in ``folder``, those that are named written anew."""
    for name, values in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, values)))
    kinds = {name: PreferenceDataset if name == "seed_preferences" else PromptDataset for name in NAMES}
    return {name: kind(str(folder / f"{name}.jsonl")) for name, kind in kinds.items()}


def prompts(*texts: str) -> list[dict]:
    return [{"prompt": text} for text in texts]


def pairs(*texts: str) -> list[dict]:
    return [{"prompt": text, "chosen": "yes", "rejected": "no"} for text in texts]


LONG = "Write a short and friendly letter to a neighbour who has lent you a ladder for three weeks and wants it back"


def test_shipped_data_pass_untouched():
    """No row is set aside, and the datasets load what they load without validation."""
    raw = PROJECT / "data/01_raw"
    before = {name: dataset.load().to_list() for name, dataset in datasets(raw).items()}
    screened = datasets(raw)
    rows, set_aside = screen(screened, parameters(), None)
    assert set_aside == []
    assert {name: len(kept) for name, kept in rows.items()} == {name: len(kept) for name, kept in before.items()}
    assert {name: dataset.load().to_list() for name, dataset in screened.items()} == before


def test_the_synthetic_tasks_data_pass_untouched(tmp_path: Path):
    """Its prompts are permutations of each other's words, which is no near-duplicate."""
    amounts = parameters("synthetic").synthetic
    assert isinstance(amounts, SyntheticParameters)
    _, *made = make_language(amounts, 0)
    rows = {}
    for name, dataset in zip(NAMES, made, strict=True):
        keys = [key for key in ("chosen", "rejected") if key in dataset.column_names]
        rows[name] = [{"prompt": row["messages"][0]["content"], **{k: row[k] for k in keys}} for row in dataset]
    _, set_aside = screen(datasets(tmp_path, **rows), parameters("synthetic"), None)
    assert set_aside == []


def test_leaks_are_set_aside_and_evaluation_stays(tmp_path: Path):
    """Case, punctuation and a word at the end make no new prompt; another subject does."""
    found = datasets(
        tmp_path,
        evaluation_prompts=prompts(LONG, "Name three rivers in Europe."),
        seed_preferences=pairs("Why is the sky blue at noon?", f"{LONG.upper()}!", "How do bees sleep?"),
        prompts=prompts("Name five rivers in Africa.", "why is the  sky blue, at noon", f"{LONG} now", "What is tea?"),
    )
    rows, set_aside = screen(found, parameters(max_set_aside=0.5), None)
    assert [(row.dataset, row.row, row.reason) for row in set_aside] == [
        ("seed_preferences", 2, "its prompt nearly repeats row 1 of evaluation_prompts"),
        ("prompts", 2, "its prompt nearly repeats row 1 of seed_preferences"),
        ("prompts", 3, "its prompt nearly repeats row 1 of evaluation_prompts"),
    ]
    assert all(row.file == str(tmp_path / f"{row.dataset}.jsonl") for row in set_aside)
    assert found["prompts"].load()["row"][:] == [1, 4] == [row["row"] for row in rows["prompts"]]
    assert found["seed_preferences"].load()["row"][:] == [1, 3]
    assert len(found["evaluation_prompts"].load()) == 2


def test_leaks_show_without_spaces_between_words(tmp_path: Path):
    found = datasets(
        tmp_path,
        evaluation_prompts=prompts("東京から京都まで一番速い行き方を教えてください"),
        seed_preferences=pairs("a"),
        prompts=prompts("東京から京都まで一番速い行き方を教えてください。", "大阪の美味しいお店を三つ教えて", "b"),
    )
    _, set_aside = screen(found, parameters(max_set_aside=0.5), None)
    assert [(row.dataset, row.row) for row in set_aside] == [("prompts", 1)]


def test_similarity_is_jaccard_of_word_trigrams(tmp_path: Path):
    """40 words share 38 of 38 + n trigrams with themselves and n more words: 0.8 lies between n = 9 and n = 10."""
    words = [f"word{number}" for number in range(60)]
    evaluation = prompts(" ".join(words[:40]))
    for more, leaks in ((9, 1), (10, 0)):
        others = prompts(" ".join(words[: 40 + more]), "x", "y")
        found = datasets(tmp_path, evaluation_prompts=evaluation, seed_preferences=pairs("z"), prompts=others)
        assert len(screen(found, parameters(max_set_aside=0.5), None)[1]) == leaks


def test_hash_collisions_are_no_leaks(tmp_path: Path):
    """1,500 × 1,500 prompts of a single trigram: two of them share a bucket for certain, and none is a duplicate."""
    texts = [f"number {number} please" for number in range(3001)]
    found = datasets(
        tmp_path,
        evaluation_prompts=prompts(*texts[:1500]),
        prompts=prompts(*texts[1500:3000]),
        seed_preferences=pairs(texts[3000]),
    )
    assert screen(found, parameters(max_set_aside=0.0), None)[1] == []


def test_a_contradiction_costs_both_rows_and_a_repetition_one(tmp_path: Path):
    turned = {"prompt": "p", "chosen": "no", "rejected": "yes"}
    others = pairs(*(f"other {number}" for number in range(20)))
    found = datasets(
        tmp_path,
        seed_preferences=[*pairs("p"), turned, *others, others[0]],
        prompts=prompts("x", "y", "x"),
        evaluation_prompts=prompts("z"),
    )
    _, set_aside = screen(found, parameters(max_set_aside=0.1), None)
    assert [(row.dataset, row.row) for row in set_aside] == [
        ("seed_preferences", 1),
        ("seed_preferences", 2),
        ("seed_preferences", 23),
        ("prompts", 3),
    ]
    assert "contradicts row 2" in set_aside[0].reason
    assert set_aside[2].reason == "it repeats row 3"
    assert found["seed_preferences"].load()["row"][:] == list(range(3, 23))


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_the_limit_is_a_share_of_the_rows(tmp_path: Path, bad: int, stops: bool):
    """Five of 100 rows may fail at 5%, six may not; rows that merely repeat one don't count."""
    rows = [*prompts(*(f"number {n} of the good ones" for n in range(100 - bad))), *prompts(*[""] * bad)]
    rows += prompts(*["number 0 of the good ones"] * 20)
    found = datasets(tmp_path, prompts=rows, seed_preferences=pairs("a"), evaluation_prompts=prompts("b"))
    limit = 0.05 * 100 / 120  # of all 120
    if stops:
        with pytest.raises(DataError, match=r"6 of 120 rows can't be used, more than max_set_aside allows \(4%\)"):
            screen(found, parameters(max_set_aside=limit), None)
    else:
        rows_left, set_aside = screen(found, parameters(max_set_aside=limit), None)
        assert (len(rows_left["prompts"]), len(set_aside)) == (95, 25)


@pytest.mark.parametrize(("limit", "words"), [(0.1, "more than max_set_aside allows"), (1.0, "no row is left")])
def test_seeds_that_all_repeat_evaluation_prompts_are_an_error(tmp_path: Path, limit: float, words: str):
    """None is left with which the prompts could be compared."""
    asked = "how many legs does a spider have"
    found = datasets(tmp_path, seed_preferences=pairs(asked), prompts=prompts("x"), evaluation_prompts=prompts(asked))
    with pytest.raises(DataError, match=words):
        screen(found, parameters(max_set_aside=limit), None)


def test_prompts_over_the_context_are_told_and_stay(tmp_path: Path, tokenizer):
    """Sampling leaves them out, as ever; a seed has to go. Lengths are exact where they are near the limit."""
    room = 64 - 24 - 2  # the template's <user> and <assistant>
    fits, over = ("w00 " * count for count in (room, room + 1))
    seed_over = "w01 " * 62
    others = [f"t0a w0{number}" for number in range(9)]
    found = datasets(
        tmp_path,
        prompts=prompts(fits, over, "t0a"),
        seed_preferences=pairs(seed_over, *others),
        evaluation_prompts=prompts("t1a"),
    )
    rows, set_aside = screen(found, parameters("test", max_set_aside=0.1), tokenizer)
    assert [(row.dataset, row.row, row.reason) for row in set_aside] == [
        ("seed_preferences", 1, "the prompt has 64 tokens; max_length leaves room for 63"),
        ("prompts", 2, "the prompt has 41 tokens; max_length leaves room for 40"),
    ]
    assert len(rows["prompts"]) == len(found["prompts"].load()) == 3
    assert len(found["seed_preferences"].load()) == 9


def test_outliers_are_told(tmp_path: Path):
    texts = [f"Tell me about subject number {number}, please." for number in range(40)]
    found = datasets(tmp_path, prompts=prompts(*texts, "Расскажи мне об этом предмете, пожалуйста.", "word " * 200))
    rows, _ = found["prompts"].inspect()
    long, script = outliers("prompts", rows)
    assert long.startswith("prompts: 1 of 42 rows have an unusually long prompt; row 42 has 1,000 characters")
    assert script == "prompts: 1 of 42 rows are written in another script than Latin; row 41 in Cyrillic"
    assert outliers("prompts", rows[:40]) == []


def test_sixty_thousand_rows_take_seconds(tmp_path: Path):
    """Processor time, for the paper's 2,000 seeds, 58,000 prompts and 805 evaluation prompts at 90 words each."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in words) for words in rng.integers(0, 20_000, (62_805, 90))]
    found = datasets(
        tmp_path,
        prompts=prompts(*texts[:60_000]),
        seed_preferences=pairs(*texts[60_000:62_000]),
        evaluation_prompts=prompts(*texts[62_000:]),
    )
    started = time.process_time()
    rows, set_aside = screen(found, parameters(), None)
    assert time.process_time() - started < 40  # measured: 7
    assert (len(rows["prompts"]), set_aside) == (60_000, [])


def preflight(folder: Path, **changes: object) -> None:
    """What surrounds a whole run before its first node."""
    with session("mine", folder / "conf", **changes) as opened:
        context = opened.load_context()
        hooks = PreflightHooks()
        hooks.after_context_created(context)
        hooks.before_pipeline_run(pipelines["generation"], context.catalog)


def test_the_quarantine_is_a_committed_file_that_the_log_names(own_copy: Path, monkeypatch, caplog):
    """Written with file, row and reason; empty again once the data are mended. Any part of the run finds the same."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own_copy}/mlflow.db")
    file = own_copy / "data/01_raw/prompts.jsonl"
    good = file.read_text()
    file.write_text(good + '{"prompt": " "}\n')
    preflight(own_copy, max_set_aside=0.05)
    written = own_copy / "data/02_intermediate/test/quarantine.json"
    assert json.loads(written.read_text()) == [
        {"dataset": "prompts", "file": str(file), "row": 82, "reason": "`prompt` is empty"}
    ]
    assert "1 rows of the data are not used" in caplog.text
    assert str(written) in caplog.text
    file.write_text(good)
    preflight(own_copy, max_set_aside=0.05)
    assert json.loads(written.read_text()) == []
