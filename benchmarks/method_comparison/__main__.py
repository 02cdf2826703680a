"""``python -m benchmarks.method_comparison``: methods compared over seeds.

``make synthetic`` runs it on the synthetic task, ``make study`` with ``--env language`` on the demo's.
"""

import json
import os
from pathlib import Path

import click

from benchmarks.method_comparison import style_guide
from benchmarks.method_comparison.results import collect, figure, markdown, table
from benchmarks.method_comparison.study import run_study
from benchmarks.runs_over_seeds import Record, data_folder, load_catalog, seed_numbers
from selfie.config.gold import GoldParameters
from selfie.reporting.tables import print_table
from selfie.storage.commit import commit_text

SYNTHETIC = "initial,seed_dpo,full_dpo,llm_judge,reward_model,gold_judge,spa_de,spa_sr,spa,spa_fast,cdpo,rdpo,selfie"
LANGUAGE = "seed_dpo,selfie,spa,spa_slow,full_dpo,gold_judge,reward_model,llm_judge"


@click.command()
@click.option("--env", type=click.Choice(["synthetic", "language"]), default="synthetic", show_default=True)
@click.option("--seeds", help="Random seeds: 0-9, or 1,3,5.  [default: 0-9; in language 1-3]")
@click.option("--methods", help="Names in methods.yml, with commas.  [default: all that the environment compares]")
@click.option("--workers", default=os.cpu_count(), show_default=True, help="Processes.")
def main(env: str, seeds: str | None, methods: str | None, workers: int) -> None:
    """Runs every method with every seed, and writes tables and plots."""
    project, data = Path.cwd(), data_folder()
    names = (methods or (SYNTHETIC if env == "synthetic" else LANGUAGE)).split(",")
    chosen = seed_numbers(seeds or ("0-9" if env == "synthetic" else "1-3"))
    records = run_study(project, data, chosen, names, workers, env)
    folder = data / "08_reporting" / env
    if env == "synthetic":
        write_synthetic(folder, records, names)
    else:
        write_language(project, data, folder, records, names)


def write_synthetic(folder: Path, records: list[Record], names: list[str]) -> None:
    """Win rates over the initial model."""
    results = collect(records, names)
    commit_text(folder / "results.json", json.dumps(results, indent=1))
    commit_text(folder / "results.md", markdown(results))
    commit_text(folder / "results.html", figure(results).to_html())
    print_table(table(results))


def write_language(project: Path, data: Path, folder: Path, records: list[Record], names: list[str]) -> None:
    """Shares of answers that follow the style guide."""
    gold = GoldParameters.model_validate(load_catalog(project, "language").load("params:gold"))
    results = style_guide.collect(data, "language", records, names, gold)
    commit_text(folder / "results.json", json.dumps(results))
    commit_text(folder / "results.md", style_guide.markdown(results))
    commit_text(folder / "results.html", style_guide.figure(results).to_html())
    click.echo(style_guide.markdown(results))


if __name__ == "__main__":
    main()
