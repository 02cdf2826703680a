"""``python -m benchmarks.method_comparison``: methods compared over seeds; what ``make synthetic`` runs."""

import json
import os
from pathlib import Path

import click

from benchmarks.method_comparison.results import collect, figure, markdown, table
from benchmarks.method_comparison.study import run_study
from benchmarks.runs_over_seeds import seed_numbers
from selfie.reporting.tables import print_table
from selfie.storage.commit import commit_text

METHODS = "initial,seed_dpo,full_dpo,llm_judge,reward_model,gold_judge,spa_de,spa_sr,spa,spa_fast,cdpo,rdpo,selfie"


@click.command()
@click.option("--seeds", default="0-9", show_default=True, help="Random seeds: 0-9, or 1,3,5.")
@click.option("--methods", default=METHODS, show_default=True, help="Names in methods.yml, with commas.")
@click.option("--workers", default=os.cpu_count(), show_default=True, help="Processes.")
def main(seeds: str, methods: str, workers: int) -> None:
    """Runs every method on the synthetic task with every seed, and writes table, plots and page."""
    project, data = Path.cwd(), Path(os.environ.get("SELFIE_DATA", "data"))
    names = methods.split(",")
    records = run_study(project, data, seed_numbers(seeds), names, workers)
    results = collect(records, names)
    folder = data / "08_reporting" / "synthetic"
    commit_text(folder / "results.json", json.dumps(results, indent=1))
    commit_text(folder / "results.md", markdown(results))
    commit_text(folder / "results.html", figure(results).to_html())
    print_table(table(results))


if __name__ == "__main__":
    main()
