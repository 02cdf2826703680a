"""Is each iteration's judge as right as the first one about the same responses?

``python -m benchmarks.judges_over_iterations EXPERIMENT…`` reads finished runs, with ``--method METHOD`` the runs
EXPERIMENT_METHOD. Every judge of a run, the policies 0 to K - 1, is asked about the responses of its first iteration:
about every two responses to one prompt that the gold annotator can tell apart, about those of them that are both whole,
and about the best against the worst by its own rewards. Label accuracy of a run's own pairs cannot say this: each
iteration has other responses.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from datasets import Dataset

from benchmarks.judge_accuracy import accuracy
from benchmarks.runs_over_seeds import load_catalog
from selfie.config.gold import GoldParameters
from selfie.config.parameters import JudgingParameters
from selfie.evaluation.label_audit import wrong_labels
from selfie.judges.gold import gold_scorer
from selfie.judges.response_rewards import response_rewards
from selfie.models.precision import Arithmetic
from selfie.pipelines.judging.nodes import judge_responses
from selfie.reporting.tables import markdown_table
from selfie.scoring.log_probs import score


@click.command()
@click.argument("experiments", nargs=-1, required=True)
@click.option("--env", default=None, help="The environment in conf/; the base one by default.")
@click.option("--method", default=None, help="A name in methods.yml.")
@click.option("--output", type=click.Path(path_type=Path), help="Also write all numbers to this JSON file.")
def main(experiments: tuple[str, ...], env: str | None, method: str | None, output: Path | None) -> None:
    """Prints a row a judge: how often it is right about the responses of iteration 1."""
    laid = {} if method is None else {"method": method}
    results = {name: judges(load_catalog(Path.cwd(), env, experiment=name, **laid)) for name in experiments}
    if output:
        output.write_text(json.dumps(results, indent=1) + "\n")
    click.echo(table(results))


def judges(catalog: Any) -> list[dict[str, Any]]:
    """What each judge of a finished run is right about, the first one first.

    Returns:
        One entry a judge: ``judge``, ``any_two`` and ``two_whole`` (:func:`accuracy` over every two responses to one
        prompt, and over those that the token limit did not cut), and ``labels``, the label accuracy of the pairs that
        it would make, with ``pairs``, how many gold can tell apart.
    """
    responses, gold = catalog.load("iteration_1.scored_responses"), catalog.load("params:gold")
    scorer = gold_scorer(GoldParameters.model_validate(gold))
    scores = np.array([scorer(row["prompt"], row["response"]) for row in responses])
    prompts = np.array(responses["prompt_id"])
    whole = np.array(responses["finish_reason"]) == "stop"
    parameters = JudgingParameters.model_validate(catalog.load("params:judging"))
    beta = catalog.load("params:beta")
    found = []
    number = 0
    while catalog.exists(f"policy_{number + 1}"):
        judged = responses if number == 0 else _scored_by(catalog.load(f"policy_{number}"), responses, parameters)
        rewards = response_rewards(judged, parameters, beta, None).numpy()
        with tempfile.TemporaryDirectory() as folder:
            pairs = judge_responses(judged, Path(folder), parameters, "auto", beta, None)
        wrong = list(wrong_labels(pairs, scorer).values())
        found.append(
            {
                "judge": f"policy_{number}",
                "any_two": accuracy(prompts, rewards, scores),
                "two_whole": accuracy(prompts[whole], rewards[whole], scores[whole]),
                "labels": wrong.count(False) / len(wrong),
                "pairs": len(wrong),
            }
        )
        number += 1
    return found


def table(results: Mapping[str, list[dict[str, Any]]]) -> str:
    """In Markdown, a row a judge."""
    rows = [
        [
            experiment,
            judge["judge"],
            *_cells(judge["any_two"]),
            *_cells(judge["two_whole"]),
            f"{judge['labels']:.3f}",
            str(judge["pairs"]),
        ]
        for experiment, judges in results.items()
        for judge in judges
    ]
    columns = ["experiment", "judge", "right on any two", "compared", "on two whole ones", "compared"]
    return markdown_table([*columns, "on its best against worst", "pairs"], rows)


def _cells(found: Mapping[str, Any]) -> list[str]:
    if not found["compared"]:
        return ["–", "0"]
    return ["{accuracy:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]".format(**found), str(found["compared"])]


def _scored_by(policy: Any, responses: Dataset, parameters: JudgingParameters) -> Dataset:
    columns = responses["prompt_ids"][:], responses["response_ids"][:]
    log_probs = score(policy, *columns, parameters.batch_tokens, policy.name, None, Arithmetic.FLOAT32)
    return responses.remove_columns("policy_log_prob").add_column("policy_log_prob", log_probs)


if __name__ == "__main__":
    main()
