"""Shares of a style guide, by hand."""

import pytest

from selfie.config.gold import GoldParameters
from selfie.diagnostics.style_guide import guide_of, style_guide_shares
from selfie.judges.gold import gold_scorer
from selfie.pipelines.diagnostics import nodes


def guide(instruction: str, answer: str) -> dict[str, bool]:
    return {"short": len(answer) <= 3, "asked": answer.startswith(instruction)}


def answers(**texts: str) -> list[dict]:
    return [{"instruction": instruction, "output": text} for instruction, text in texts.items()]


NOW = answers(a="a", b="b", c="c", d="d far too long", e="x")
BEFORE = answers(e="e", a="a is long", b="x", c="c", d="d long")


def test_shares_by_hand():
    """a, b and c pass both, d is too long, e is to another question: 3/5 whole, 4/5 on each check."""
    shares = style_guide_shares(NOW, guide, {}, samples=100, seed=0)
    assert shares["share"] == 0.6
    assert shares["checks"] == {"short": 0.8, "asked": 0.8}
    assert shares["ci"] == pytest.approx([0.2307, 0.8824], abs=1e-4)  # Wilson: (0.6 + 1.92/5 ± …) / (1 + 3.84/5)
    assert set(shares) == {"share", "ci", "checks"}


def test_changes_are_paired_by_instruction():
    """Against BEFORE (c and e follow): a and b gained, c and d as before, e lost: (1 + 1 + 0 + 0 − 1) / 5."""
    shares = style_guide_shares(NOW, guide, {"initial": BEFORE, "seeding": NOW}, samples=2000, seed=0)
    assert shares["change_from_initial"] == pytest.approx(0.2)
    low, high = shares["change_from_initial_ci"]
    assert -0.6 <= low < 0 < high <= 0.8
    assert (shares["change_from_seeding"], shares["change_from_seeding_ci"]) == (0.0, [0.0, 0.0])


def test_parts_and_checks_that_do_not_apply():
    """Odd questions ask for an x, even ones for a y: q1 gained, q3 lost, q2 and q4 both gained."""

    def ask(instruction: str, answer: str) -> dict[str, bool]:
        return {"x": "x" in answer} if parity(instruction) == "odd" else {"y": "y" in answer}

    def parity(instruction: str) -> str:
        return "odd" if int(instruction[1:]) % 2 else "even"

    now, before = answers(q1="x", q2="y", q3="y", q4="xy"), answers(q1="y", q2="x", q3="x", q4="")
    shares = style_guide_shares(now, ask, {"initial": before}, samples=200, seed=0, part=parity)
    assert (shares["share"], shares["checks"]) == (0.75, {"x": 0.5, "y": 1.0})
    assert shares["change_from_initial"] == (1 + 1 - 1 + 1) / 4
    odd, even = shares["parts"]["odd"], shares["parts"]["even"]
    assert (odd["share"], odd["checks"], odd["change_from_initial"]) == (0.5, {"x": 0.5}, 0.0)
    assert (even["share"], even["checks"]) == (1.0, {"y": 1.0})
    assert (even["change_from_initial"], even["change_from_initial_ci"]) == (1.0, [1.0, 1.0])
    assert set(shares["parts"]) == {"odd", "even"}


def test_a_sure_gain_has_an_interval_above_zero():
    gained = {f"q{n}": f"q{n}" for n in range(30)}
    lost = dict.fromkeys(gained, "no answer")
    shares = style_guide_shares(answers(**gained), guide, {"initial": answers(**lost)}, samples=200, seed=0)
    assert shares["change_from_initial_ci"] == [1.0, 1.0]


RULES = {"word_count": {"least": 2, "most": 3}, "finished_sentence": {"end_marks": ".!?"}}
GOLD = GoldParameters.model_validate({"annotator": "style_guide", "checks": RULES})
SYNTHETIC = GoldParameters(annotator="synthetic")


def test_an_annotator_may_have_no_style_guide():
    assert guide_of(gold_scorer(GOLD))("Why?", "It rains.") == {"word_count": True, "finished_sentence": True}
    assert guide_of(gold_scorer(SYNTHETIC)) is None
    assert guide_of(None) is None


def test_exact_instructions_are_reported_by_kind_and_seen_and_unseen_apart():
    """Through the node, as kedro runs it: one obeys now, the comma of the other was there before, too."""
    short, plain = "Why do cats purr? Use at most 5 words.", "Why do cats purr? Do not use any commas."
    now, before = (
        answers(**{short: "It calms them.", plain: "It calms, I think."}),
        answers(**{short: "It calms them and other cats nearby.", plain: "It calms, I guess."}),
    )
    measured = nodes.measure_style_guide(now, GoldParameters(annotator="instructions"), 100, 0, initial=before)
    guide = measured["style_guide"]
    assert guide["checks"] == {"most_words": 1.0, "no_commas": 0.0}
    changes = {name: (part["share"], part["change_from_initial"]) for name, part in guide["parts"].items()}
    assert changes == {"seen_kinds": (1.0, 1.0), "unseen_kinds": (0.0, 0.0)}


def test_the_nodes_ask_the_annotator_that_the_parameter_names():
    """Both answers follow it now, one did before."""
    now, before = answers(Why="It rains.", How="With water."), answers(Why="It rains.", How="with a lot of water")
    for without in (None, SYNTHETIC):
        assert nodes.measure_style_guide(now, without, 100, 0, initial=before) == {"style_guide": None}
    measured = nodes.measure_style_guide(now, GOLD, 100, 0, initial=before)["style_guide"]
    assert (measured["share"], measured["change_from_initial"]) == (1.0, 0.5)
    _, answer = nodes.compose_section(now, before, [], GOLD)["answers"]
    assert answer["policy_checks"] == {"word_count": True, "finished_sentence": True}
    assert answer["initial_checks"] == {"word_count": False, "finished_sentence": False}
