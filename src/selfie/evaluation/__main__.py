"""Win rates and length-controlled win rates of AlpacaEval annotations, as JSON.

python -m selfie.evaluation ANNOTATIONS --reference reference_outputs.json.gz
"""

import json
from pathlib import Path

import click

from selfie.evaluation.alpaca_files import read_annotations, read_gamed_baselines, read_reference
from selfie.evaluation.length_control import evaluate

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reference", type=_FILE, help="The reference's answers, for annotations without output_1.")
@click.option("--gamed", type=_FILE, help="AlpacaEval's df_gamed.csv, for its own fit instead of our estimate of it.")
@click.option("--samples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--seed", type=int, default=0, show_default=True, help="The resamples' seed.")
def main(path: Path, reference: Path | None, gamed: Path | None, samples: int, seed: int) -> None:
    """Prints the win rates of the annotations in PATH, in percent.

    PATH is a folder of AlpacaEval annotations, one MODEL.json or MODEL.json.gz a model; one such file; or a CSV of
    model, index, len_1, len_2 (characters) and preference. Without --gamed the length-controlled win rate is an
    estimate of AlpacaEval 2's, and says so in "length_controlled_by".
    """
    annotations = read_annotations(path, read_reference(reference) if reference else None)
    results = evaluate(annotations, read_gamed_baselines(gamed) if gamed else None, samples, seed)
    click.echo(json.dumps(results, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
