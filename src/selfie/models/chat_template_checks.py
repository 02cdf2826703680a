"""Chat-template validation: does the tokenizer write conversations as training and sampling expect them?

Training joins a prompt's token ids and a response's. That is right only if the chat template, given the whole
conversation, begins it with exactly the prompt that it gives alone, whatever the response says, and if there are ids
after the prompt's that say what it writes as the response.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import AutoConfig, PreTrainedTokenizerBase

from selfie.config.parameters import Parameters
from selfie.errors import ConfigurationError, DataError, ModelError
from selfie.models.chat_template import Message, render, render_response
from selfie.models.checkpoint import Checkpoint
from selfie.models.stop_tokens import stop_token_ids

logger = logging.getLogger(__name__)
PAIRS_RENDERED = 2000
QUESTION, OTHER_QUESTION = ([{"role": "user", "content": text}] for text in ("Why is it blue?", "Name three rivers."))
ANSWER, OTHER_ANSWER = "Light scatters.", "I do not know."
FAILURES = (TemplateError, TypeError, ValueError, KeyError)
REMEDY = "mend tokenizer.chat_template and save the tokenizer again"


class Conversation(NamedTuple):
    """A row of the user's data; ``responses`` are a pair's chosen and rejected."""

    file: str
    row: int
    messages: list[Message]
    responses: Sequence[str] = ()


def check_model(checkpoint: Checkpoint, parameters: Parameters) -> PreTrainedTokenizerBase:
    """Checks tokenizer, template and configuration; reads no weights.

    Raises:
        ModelError, ConfigurationError: what would spoil the training, or end it after hours.
    """
    tokenizer = checkpoint.load_tokenizer()
    try:
        config: Any = AutoConfig.from_pretrained(
            checkpoint.source, revision=checkpoint.revision, trust_remote_code=False
        )
        sizes = config.get_text_config().to_dict()
    except Exception as error:  # whatever a damaged or unknown configuration leads transformers into
        first = str(error).split("\n", 1)[0][:300]
        raise ModelError(
            checkpoint.source, f"its configuration can't be read ({first})", "use a model that transformers knows"
        ) from error
    largest = max(tokenizer.get_vocab().values())
    if not isinstance(sizes.get("vocab_size"), int):
        raise ModelError(checkpoint.source, "config.json has no vocab_size", "save the model again")
    if largest >= sizes["vocab_size"]:
        raise ModelError(
            checkpoint.source,
            f"the tokenizer has token ids up to {largest}, the model's vocabulary ends at {sizes['vocab_size'] - 1}",
            "save the tokenizer that belongs to the model, or resize the model's embeddings",
        )
    positions = sizes.get("max_position_embeddings")  # state-space models have no such limit
    if positions is not None and parameters.max_length > positions:
        raise ConfigurationError(
            "parameter max_length",
            f"{parameters.max_length} tokens are more than the {positions} positions of {checkpoint.source}",
            f"set it to {positions} or less",
        )
    check_template(checkpoint.source, tokenizer)
    stop_token_ids(checkpoint, tokenizer)
    return tokenizer


def check_template(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Renders a probe, with and without a response.

    Raises:
        ModelError: the template fails, leaves out what is said, doubles a token, writes the prompt of a whole
            conversation otherwise than the prompt alone, or ends the prompt inside of a token of the response.
    """
    try:
        prompt, other_prompt = (_written(tokenizer, messages) for messages in (QUESTION, OTHER_QUESTION))
        whole, other_whole = (_written(tokenizer, QUESTION, response) for response in (ANSWER, OTHER_ANSWER))
        prompt_ids = render(tokenizer, QUESTION)
        whole_ids = render(tokenizer, _answered(QUESTION, ANSWER), add_generation_prompt=False)
    except FAILURES as error:
        raise ModelError(source, f"the chat template fails ({error})", REMEDY) from error
    if prompt == other_prompt or whole == other_whole:
        what = "prompt" if prompt == other_prompt else "response"
        raise ModelError(source, f"the chat template leaves the {what} out", REMEDY)
    if not (whole.startswith(prompt) and other_whole.startswith(prompt)):
        raise ModelError(
            source, "the chat template writes a prompt otherwise once a response follows", f"{REMEDY}: see {prompt!r}"
        )
    for token, name in ((tokenizer.bos_token_id, "bos"), (tokenizer.eos_token_id, "eos")):
        if token is not None and (token, token) in pairwise(whole_ids):
            raise ModelError(source, f"the chat template writes two {name} tokens in a row", REMEDY)
    if whole_ids[: len(prompt_ids)] == prompt_ids:
        return
    try:
        render_response(tokenizer, QUESTION, prompt_ids, ANSWER)
    except DataError as error:
        raise ModelError(
            source, f"the chat template ends a prompt inside of a token ({error.problem})", REMEDY
        ) from error
    logger.warning(
        "%s: tokens of a prompt merge with those of its response where both are tokenised at once; Selfie tokenises "
        "such a response alone, so training and sampling agree with each other, if not with how the model was tuned",
        source,
    )


def check_conversations(source: str, tokenizer: PreTrainedTokenizerBase, conversations: Iterable[Conversation]) -> None:
    """Renders one conversation of each kind (the order of its roles), and the first 2,000 pairs.

    Args:
        source: the model's name in errors.
        tokenizer: with its chat template.
        conversations: the user's.

    Raises:
        DataError: the template can't write a conversation, writes the prompt of a pair otherwise for chosen and
            rejected, or a response can't be told from control tokens or from its prompt.
    """
    kinds, pairs = set(), 0
    for conversation in conversations:
        roles = tuple(message["role"] for message in conversation.messages)
        pairs += bool(conversation.responses)
        if roles in kinds and not (conversation.responses and pairs <= PAIRS_RENDERED):
            continue
        kinds.add(roles)
        where = f"{conversation.file}, row {conversation.row}"
        try:
            prompt = _written(tokenizer, conversation.messages)
            wholes = [_written(tokenizer, conversation.messages, text) for text in conversation.responses or [ANSWER]]
        except FAILURES as error:
            raise DataError(
                where,
                f"the chat template of {source} can't write it ({error}); its roles are {', '.join(roles)}",
                "bring conversations as the model knows them, or a model with another template",
            ) from error
        if not all(whole.startswith(prompt) for whole in wholes):
            raise DataError(
                where,
                f"the chat template of {source} writes its prompt otherwise once a response follows",
                f"remove the row, or {REMEDY}",
            )
        try:
            prompt_ids = render(tokenizer, conversation.messages)
            for text in conversation.responses:
                render_response(tokenizer, conversation.messages, prompt_ids, text)
        except DataError as error:
            raise DataError(f"{where}, {error.where}", error.problem, error.remedy) from error


def _written(tokenizer: PreTrainedTokenizerBase, messages: list[Message], response: str | None = None) -> str:
    """The prompt as text, or the whole conversation with the response."""
    turns = messages if response is None else _answered(messages, response)
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=response is None, tokenize=False))


def _answered(messages: list[Message], response: str) -> list[Message]:
    return [*messages, {"role": "assistant", "content": response}]
