"""``python -m benchmarks.label_selection``: which rule's labels make the better policy 0, at equal budgets."""

import json
import os
from pathlib import Path

import click

from benchmarks.label_selection.study import collect, markdown, run_study
from selfie.storage.commit import commit_text


@click.command()
@click.option("--seeds", default="0,1,2,3,4", show_default=True, help="Random seeds, with commas.")
@click.option("--budgets", default="30,60,120", show_default=True, help="Numbers of labels, with commas.")
@click.option("--selections", default="random,diverse,uncertain", show_default=True, help="Rules, with commas.")
def main(seeds: str, budgets: str, selections: str) -> None:
    """Proposes, labels by the gold annotator and trains, for every rule, budget and seed; writes a table.

    What is done is not repeated: the same command goes on where it stopped.
    """
    data = Path(os.environ.get("SELFIE_DATA", "data"))
    numbers, sizes = ([int(part) for part in text.split(",")] for text in (seeds, budgets))
    results = collect(run_study(Path.cwd(), data, numbers, sizes, selections.split(",")))
    folder = data / "08_reporting" / "label_selection"
    commit_text(folder / "results.json", json.dumps(results, indent=1))
    commit_text(folder / "results.md", markdown(results))
    click.echo(markdown(results))


if __name__ == "__main__":
    main()
