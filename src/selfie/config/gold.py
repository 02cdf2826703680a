"""The parameter ``gold``: who stands for the human, and the rules of the style guide that is the demo's."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from selfie.config.plug_ins import plug_in
from selfie.config.strict import StrictModel

STYLE_GUIDE, INSTRUCTIONS, SYNTHETIC = "style_guide", "instructions", "synthetic"
Share = Annotated[float, Field(ge=0, le=1)]
Phrases = list[Annotated[str, Field(pattern=r"\w")]]
"""Compared without regard to case and punctuation."""


class FinishedSentenceRule(StrictModel):
    """The answer ends with a whole sentence."""

    end_marks: Annotated[str, Field(min_length=1)]
    """Characters that may end it; a closing quotation mark or bracket may follow."""


class RangeRule(StrictModel):
    """So many of something, both ends included."""

    least: NonNegativeInt
    most: PositiveInt

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is above most ({self.most})")
        return self


class PlainProseRule(StrictModel):
    """The answer is running text: no list, no heading, no markup."""

    marks: Annotated[str, Field(min_length=1)]
    """Characters that it does not have. Lines that begin as an item of a list do are found without them."""
    most_paragraphs: PositiveInt


class NoFillerRule(StrictModel):
    """The answer begins with its content, and asks nothing back."""

    openings: Phrases
    """Phrases that it does not begin with."""
    phrases: Phrases
    """Phrases that it has nowhere."""
    most_questions: NonNegativeInt


class OnTopicRule(StrictModel):
    """The answer shares content words with the question."""

    least_words: NonNegativeInt
    least_share: Share
    """Of the question's content words. Both bounds hold."""


class OwnContentRule(StrictModel):
    """The answer says something of its own."""

    least_words: NonNegativeInt
    """Different content words that the question lacks."""


class NoAnswerRule(StrictModel):
    """The answer is one: it is not empty and does not give up."""

    phrases: Phrases
    """Phrases that its first sentence does not have."""


class EchoRule(StrictModel):
    """The answer is not the question again."""

    most_share: Share
    """Of the answer's content words that stand in the question."""


class RepetitionRule(StrictModel):
    """The answer does not repeat itself."""

    least_distinct: Share
    """Share of different ones among its runs of three words."""


class GarbleRule(StrictModel):
    """The answer is words in an order that English has."""

    least_letters: Share
    """Share of letters among its characters other than white space."""
    most_breaks: NonNegativeInt
    """Times that words follow each other which never do, such as "the of"; sentences that begin small count too."""


class CheckParameters(StrictModel):
    """The checks of the style guide; each one counts the same. ``null`` leaves one out."""

    finished_sentence: FinishedSentenceRule | None = None
    word_count: RangeRule | None = None
    sentence_count: RangeRule | None = None
    plain_prose: PlainProseRule | None = None
    no_filler: NoFillerRule | None = None
    on_topic: OnTopicRule | None = None
    own_content: OwnContentRule | None = None

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if not any(value is not None for _, value in self):
            raise ValueError("the style guide has no check")
        return self


class GuardParameters(StrictModel):
    """An answer that fails one of these passes no check. ``null`` leaves one out."""

    no_answer: NoAnswerRule | None = None
    echo: EchoRule | None = None
    repetition: RepetitionRule | None = None
    garble: GarbleRule | None = None


class GoldParameters(StrictModel):
    """The annotator that stands for the human."""

    annotator: Annotated[str, plug_in(STYLE_GUIDE, INSTRUCTIONS, SYNTHETIC, takes="prompt, response")]
    """``style_guide``, ``instructions`` (does the answer obey the instruction at its prompt's end?), ``synthetic`` (the
    synthetic task's reward), or the dotted path of a callable ``(prompt, response) → float`` of your own,
    ``my_package.my_module.my_scorer``; the higher score is preferred."""
    checks: CheckParameters | None = None
    """Of the style guide."""
    guards: GuardParameters = GuardParameters()
    """Of the style guide and of the instructions."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_others_use(cls, given: Any) -> Any:
        """The rules stand in ``conf/base``: an environment with another annotator need not take them away."""
        if not isinstance(given, Mapping):
            return given
        annotator = given.get("annotator", STYLE_GUIDE)
        unused = (
            set() if annotator == STYLE_GUIDE else {"checks"} if annotator == INSTRUCTIONS else {"checks", "guards"}
        )
        return {name: value for name, value in given.items() if name not in unused}

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if self.annotator == STYLE_GUIDE and self.checks is None:
            raise ValueError("the style guide has no checks")
        return self
