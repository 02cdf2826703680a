"""``python -m benchmarks.label_selection``: which rule's labels make the better policy 0, at equal budgets."""

import json
import os
from pathlib import Path

import click

from benchmarks.label_selection.results import collect, markdown
from benchmarks.label_selection.study import RULES, run_study
from benchmarks.runs_over_seeds import data_folder, seed_numbers
from selfie.storage.commit import commit_text


@click.command()
@click.option("--seeds", default="0-4", show_default=True, help="Random seeds: 0-4, or 1,3,5.")
@click.option("--budgets", default="30,60,120", show_default=True, help="Numbers of labels, with commas.")
@click.option("--rules", default=",".join(RULES), show_default=True, help="Rules, with commas.")
@click.option("--workers", default=os.cpu_count(), show_default=True, help="Processes.")
def main(seeds: str, budgets: str, rules: str, workers: int) -> None:
    """Proposes, labels by the gold annotator and trains, for every rule, budget and seed; writes a table.

    What is done is not repeated: the same command goes on where it stopped.
    """
    if unknown := set(rules.split(",")) - RULES.keys():
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: use some of {', '.join(RULES)}", param_hint="--rules")
    data = data_folder()
    sizes, names = [int(part) for part in budgets.split(",")], rules.split(",")
    results = collect(run_study(Path.cwd(), data, seed_numbers(seeds), sizes, names, workers), names)
    folder = data / "08_reporting" / "label_selection"
    commit_text(folder / "results.json", json.dumps(results, indent=1))
    commit_text(folder / "results.md", markdown(results))
    click.echo(markdown(results))


if __name__ == "__main__":
    main()
