"""Held-out pairs: who judges them right, by hand; and a whole run that is judged by them."""

import json

import pytest

from runs import run, write_to
from selfie.evaluation.heldout import audit_judges
from selfie.synthetic.language import all_prompts


def pair(prompt, chosen, rejected):
    return {"prompt_id": prompt, "chosen": "x" * chosen, "rejected": "x" * rejected}


PAIRS = [pair("a", 100, 20), pair("a", 100, 80), pair("b", 60, 100), pair("b", 65, 100)]


def test_accuracies_by_hand():
    """Longer is right on the first two: 2/4. Similar means a difference of at most 35% of the longer one.

    That is 80/100, 20/100, 40/100 and 35/100, so the second and the fourth: longer is right on 1/2. The judge's margins
    are right, wrong, a draw, right: 2.5/4 on all, 1/2 on the similar ones.
    """
    audit = audit_judges(PAIRS, {"judge": [0.3, -0.1, 0.0, 2.0]}, seed=0)
    assert (audit["n_pairs"], audit["n_similar"]) == (4, 2)
    assert audit["judges"]["longer"]["all"][0] == 0.5
    assert audit["judges"]["longer"]["similar"][0] == 0.5
    assert audit["judges"]["judge"]["all"][0] == 0.625
    assert audit["judges"]["judge"]["similar"][0] == 0.5


def test_the_interval_is_over_prompts():
    """All of one prompt's pairs right, all of the other's wrong: a resample of two prompts is right on 0, ½ or 1."""
    right = {"judge": [1.0] * 20 + [-1.0] * 20}
    audit = audit_judges([pair("a", 9, 9)] * 20 + [pair("b", 9, 9)] * 20, right, seed=0)
    assert audit["judges"]["judge"]["all"] == [0.5, 0.0, 1.0]
    many = audit_judges([pair(str(number), 9, 9) for number in range(40)], right, seed=0)
    _, low, high = many["judges"]["judge"]["all"]
    assert 0.3 < low < 0.4
    assert 0.6 < high < 0.7


def test_no_similar_pair_is_no_figure():
    audit = audit_judges(PAIRS[:1], {"judge": [1.0]}, seed=0)
    assert audit["judges"]["judge"] == {"all": [1.0, 1.0, 1.0], "similar": None}


@pytest.fixture
def heldout_run(own_copy, empty_database, monkeypatch):
    """Seeding alone, with five held-out pairs; the folder of its results."""
    mine = own_copy / "conf/mine"
    (mine / "globals.yml").write_text((mine / "globals.yml").read_text() + "heldout: true\n")
    catalog = "heldout_preferences:\n  type: selfie.datasets.PreferenceDataset\n"
    catalog += "  filepath: ${globals:data}/01_raw/heldout_preferences.jsonl\n"
    (mine / "catalog_heldout.yml").write_text(catalog)
    rows = [{"prompt": prompt, "chosen": "w00 w01 w02", "rejected": "w03"} for prompt in all_prompts()[-5:]]
    text = "\n".join(map(json.dumps, rows))
    (own_copy / "data/01_raw/heldout_preferences.jsonl").write_text(text)
    write_to(own_copy / "data", monkeypatch, empty_database)
    run(env="mine", conf_source=own_copy / "conf", method="llm_judge", iterations=0)
    return own_copy / "data/08_reporting/test_llm_judge"


def test_a_run_judges_held_out_pairs(heldout_run):
    initial = json.loads((heldout_run / "initial/heldout.json").read_text())
    assert set(initial["judges"]) == {"longer", "log_prob", "log_prob_per_token", "prompted_policy"}
    assert initial["judges"]["longer"]["all"] == [1.0, 1.0, 1.0]
    seeded = json.loads((heldout_run / "seeding/heldout.json").read_text())
    assert set(seeded["judges"]) == {
        "longer",
        *(f"implicit_reward_{length}" for length in ("summed", "per_token", "neutral")),
    }
    assert seeded["n_pairs"] == 5
    assert seeded["heldout_accuracy"] == seeded["judges"]["implicit_reward_summed"]["all"][0]
    summary = json.loads((heldout_run / "summary.json").read_text())
    assert summary["iterations"][-1]["heldout_accuracy"] == seeded["heldout_accuracy"]
