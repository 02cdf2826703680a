"""The annotator that a name stands for, and the gold scorer's comparisons."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from judge_models import save_judge
from selfie.config.gold import GoldParameters
from selfie.config.parameters import AnnotationParameters, EndpointParameters, JudgePrompts
from selfie.judges.comparisons import Comparison, ScorerAnnotator
from selfie.judges.local_annotators import LocalAnnotator, RewardModelAnnotator
from selfie.judges.open_annotator import open_annotator
from selfie.judges.openai_api import LlmAnnotator


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gold", ScorerAnnotator),
        ("openai_api", LlmAnnotator),
        ("prompted_model", LocalAnnotator),
        ("reward_model", RewardModelAnnotator),
        ("none", type(None)),
    ],
)
def test_each_name_has_its_annotator(
    name: str, expected: type, endpoint: Callable[..., EndpointParameters], prompts: JudgePrompts, tmp_path: Path
):
    model = name.endswith("_model")
    if model:
        save_judge(name, tmp_path)
    parameters = AnnotationParameters(
        order="both",
        max_failures=0.0,
        judge_model=str(tmp_path) if model else None,
        judge_revision=None,
        endpoint=endpoint(),
    )
    annotator = open_annotator(
        name, parameters, prompts, GoldParameters(annotator="synthetic"), SecretStr(""), "float32"
    )
    assert type(annotator) is expected
    if annotator is not None:
        assert annotator.name == {"gold": "synthetic", "openai_api": "tester"}.get(name, str(tmp_path))
        assert annotator.depends_on_order == (name in ("openai_api", "prompted_model"))
    if isinstance(annotator, LocalAnnotator | RewardModelAnnotator):
        assert str(annotator.arithmetic) == "float32"


def test_the_higher_score_wins_and_equal_ones_are_a_draw():
    annotator = ScorerAnnotator("length", lambda prompt, response: float(len(response)))
    asked = [Comparison("", "aa", "b"), Comparison("", "a", "bb"), Comparison("", "a", "b")]
    found = dict(annotator.judge(asked))
    assert [found[n].value for n in range(3)] == [1.0, 2.0, 1.5]
    assert found[1].scores == (1.0, 2.0)
