"""What goes to MLflow, as plain numbers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numeric metrics; an interval [low, high] becomes ``NAME_low`` and ``NAME_high``, None is left out.

    Groups of metrics give their name to their members: ``failures_timeout``.
    """
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{member}": number for member, number in numbers(value).items()}
        elif isinstance(value, list):
            flat |= {f"{name}_low": float(value[0]), f"{name}_high": float(value[1])}
        elif value is not None:
            flat[name] = float(value)
    return flat


def training_curve(log: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Optimiser step → means over its pairs: loss, margin, share of positive margins, share flagged."""
    steps = defaultdict(list)
    for entry in log:
        steps[entry["step"]].append(entry)
    return {
        step: {
            "loss": mean(entry["loss"] for entry in entries),
            "margin": mean(entry["margin"] for entry in entries),
            "accuracy": mean(entry["margin"] > 0 for entry in entries),
            "flagged": mean(entry["flagged"] for entry in entries),
        }
        for step, entries in steps.items()
    }
