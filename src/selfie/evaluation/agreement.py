"""Cohen's κ between two judges' annotations of the same outputs, as JSON.

python -m selfie.evaluation.agreement A/annotations.json B/annotations.json
"""

import json
from pathlib import Path

import click

from selfie.evaluation.alpaca_files import read_annotation_records
from selfie.evaluation.significance import agreement, preferences_by

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("one", type=_FILE)
@click.argument("other", type=_FILE)
@click.option("--samples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--seed", type=int, default=0, show_default=True, help="The resamples' seed.")
def main(one: Path, other: Path, samples: int, seed: int) -> None:
    """Prints how far two judges agree, beyond chance, on the comparisons in two AlpacaEval annotation files."""
    first, second = (preferences_by(read_annotation_records(path), "instruction", "output_2") for path in (one, other))
    click.echo(json.dumps(agreement(first, second, samples, seed), indent=2))


if __name__ == "__main__":
    main()
