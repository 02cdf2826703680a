"""A run's summary and sections as the nodes make them, with everything in the answers that could break a page."""

import pytest

from selfie.reporting.label_figures import lengths_figure, margins_figure, reliability_figure
from selfie.reporting.sections import section_of
from selfie.reporting.summary import summary_of

SCRIPT = "</script><script>document.title = 'broken'</script>"
IMAGE = "<img src=x onerror=\"document.title = 'broken'\">"
LONG = "x" * 3000


@pytest.fixture(scope="session")
def summary():
    """Three policies; the last one follows the guide more often, and has drifted."""
    evaluation = {
        "win_rate": 50.0,
        "win_rate_ci": [50.0, 50.0],
        "length_controlled_win_rate": 50.0,
        "avg_length": 210.5,
    }
    evaluation |= {"distinct_1": 0.5, "distinct_2": 0.9, "repetition": 0.01}
    better = {**evaluation, "win_rate": 72.25, "win_rate_ci": [60.0, 81.0]}
    labels = {"label_accuracy": 0.75, "label_accuracy_ci": [0.6, 0.85], "ece": 0.1, "ece_by_chance": 0.12, "n_pairs": 4}
    labels |= {"noise_precision": 0.4, "noise_base_error": 0.25, "flip_rate": 0.1, "flip_rate_ci": [0.02, 0.3]}
    guide = {"share": 0.25, "ci": [0.1, 0.5], "checks": {"plain_prose": 0.5, "on_topic": 0.75}}
    evaluation["style_guide"] = guide
    better |= {
        "style_guide": {**guide, "share": 0.5, "change_from_initial": 0.25, "change_from_initial_ci": [0.125, 0.4]}
    }
    labels |= {"on_topic": 0.7, "drifted": True, "drift_reasons": {"on_topic": 0.7}}
    labels |= {"kl_from_initial": 3.5, "kl_from_initial_ci": [3.0, 4.0], "longer_chosen": 0.6}
    timings = {"train": {"namespace": "iteration_1", "stage": "training", "seconds": 90.0, "peak_rss_gib": 1.25}}
    namespaces = {"initial": evaluation, "seeding": {**better, "n_pairs": 4}, "iteration_1": {**better, **labels}}
    return summary_of("hostile", f"models/{IMAGE}", namespaces, timings)


def judged(number: int, preference: float, output: str) -> dict:
    return {
        "instruction": f"Instruction {number} {IMAGE}",
        "output_1": f"Initial answer {number}",
        "output_2": output,
        "preference": preference,
    }


def checks(instruction: str, answer: str) -> dict[str, bool]:
    """A style guide that an initial answer follows whole, and a hostile one in part."""
    return {"plain_prose": "<" not in answer, "on_topic": True}


@pytest.fixture(scope="session")
def sections():
    """policy_0 drew once; policy_1 won twice and lost once, with hostile answers."""
    pairs = [{"pair": n, "prompt": SCRIPT, "chosen": IMAGE, "rejected": LONG, "margin": 0.5 * n} for n in range(4)]
    points = [{"predicted": 0.7, "right": 0.75, "right_ci": [0.3, 0.95], "n": 4}]
    figures = {
        "reliability": reliability_figure(points),
        "margins": margins_figure(pairs, {1}, {0: True, 1: False, 2: False, 3: False}),
        "lengths": lengths_figure([3, 4, 9, 12], [5, 4, 2, 20]),
    }
    examples = [{**pairs[3], "kind": "best", "wrong": False}, {**pairs[1], "kind": "flagged", "wrong": True}]
    hostile = [judged(0, 2.0, SCRIPT), judged(1, 1.0, IMAGE), judged(2, 1.9, LONG)]
    return {
        "policy_0": section_of([], [], [judged(0, 1.5, "A calm answer.")], [], {}),
        "policy_1": section_of([], [], hostile, examples, figures, checks),
    }
