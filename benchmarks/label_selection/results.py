"""The comparison's table."""

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from benchmarks.runs_over_seeds import Record
from selfie.config.labelling import BY_POLICY
from selfie.evaluation.win_rate import mean_interval
from selfie.reporting.tables import markdown_table

RESAMPLES = 9999
BASELINES = ("random", "random_twice")
HEADER = (
    *("rule", "budget", "win rate % [95%]", "worst seed", "above random [95%]", "above random_twice [95%]"),
    *("labels", "ties", "seconds"),
)


def collect(records: Sequence[Record], rules: Sequence[str]) -> list[Record]:
    """A row for each rule and budget: win rates by seed, their mean and 95% interval, and how far above a baseline's.

    ``above`` has of each baseline (a rule) the mean and the interval of the difference between runs of the same seed;
    ``random_twice`` is one for the rules that need a policy.
    Ties are pairs of the budget that the annotator finds equal: they make no label.
    """
    by_rule: dict[tuple[int, str], dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: (record["budget"], rules.index(record["rule"]), record["seed"])):
        by_rule.setdefault((record["budget"], record["rule"]), {})[record["seed"]] = record
    rows = []
    for (budget, rule), runs in by_rule.items():
        wins = {seed: run["win_rate"] for seed, run in runs.items()}
        above = {}
        for baseline in BASELINES:
            other = by_rule.get((budget, baseline), {})
            compared = rule != baseline and (baseline == "random" or rule in BY_POLICY)
            if compared and wins.keys() & other.keys():
                above[baseline] = _spread(wins[s] - other[s]["win_rate"] for s in wins.keys() & other.keys())
        means = {name: mean(run[name] for run in runs.values()) for name in ("labels", "ties", "seconds")}
        row = {"rule": rule, "budget": budget, "win_rate": wins, **_spread(wins.values()), "above": above, **means}
        rows.append(row)
    return rows


def markdown(results: Sequence[Record]) -> str:
    """The table for a page."""
    cells = []
    for row in results:
        above = [row["above"].get(baseline) for baseline in BASELINES]
        cells.append(
            [
                row["rule"],
                str(row["budget"]),
                f"{row['mean']:.1f} [{row['ci'][0]:.1f}, {row['ci'][1]:.1f}]",
                f"{min(row['win_rate'].values()):.1f}",
                *(f"{a['mean']:+.1f} [{a['ci'][0]:+.1f}, {a['ci'][1]:+.1f}]" if a else "–" for a in above),
                f"{row['labels']:.1f}",
                f"{row['ties']:.1f}",
                f"{row['seconds']:.0f}",
            ]
        )
    return markdown_table(HEADER, cells)


def _spread(values: Iterable[float]) -> dict[str, Any]:
    known = list(values)
    return {"mean": mean(known), "ci": list(mean_interval(known, RESAMPLES, seed=0))}
