"""Which scorer the parameter ``gold`` names."""

import pytest
from pydantic import ValidationError

from selfie.config.gold import GoldParameters
from selfie.judges.gold import gold_scorer
from selfie.synthetic.language import gold_reward


def test_the_synthetic_tasks():
    assert gold_scorer(GoldParameters(annotator="synthetic")) is gold_reward


def test_the_style_guides_rules_are_left_to_it():
    """conf/base has them, and an environment with another annotator is laid over it."""
    rules = {"checks": {"own_content": {"least_words": 5}}, "guards": {"echo": {"most_share": 0.8}}}
    assert GoldParameters.model_validate({"annotator": "synthetic", **rules}) == GoldParameters(annotator="synthetic")
    guarded = GoldParameters.model_validate({"annotator": "instructions", **rules})
    assert guarded == GoldParameters(annotator="instructions", guards=rules["guards"])  # which share its guards
    with pytest.raises(ValidationError, match="the style guide has no checks"):
        GoldParameters(annotator="style_guide")
