"""The language: prompts name a topic, responses are word chains, and the gold reward is known.

Every word has a value, mostly the same for all topics and partly the topic's own. A supervised corpus knows the grammar
(which word may follow which) and favours a topic's words only a little; the gold reward of a response is the mean value
of its words for the prompt's topic. A mean has no preferred length: neither short nor long responses win.
"""

import math
from functools import cache
from itertools import permutations

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

TOPICS = 4
PROMPT_WORDS = 9  # per topic
WORDS = 32
SHARED = 0.8  # of the variance of words' values: what holds for every topic
SUCCESSORS = 12  # words that may follow a word
FULL_RESPONSE_WORDS = 6
FEWEST_WORDS, MOST_WORDS = 4, 16  # of a response
PROMPT_TOKENS = 5  # three words and a mark on either side
MEAN_RESPONSE_TOKENS = (FEWEST_WORDS + MOST_WORDS) / 2 + 1
LANGUAGE_SEED = 2406_04412

TOPIC_WORDS = [[f"t{topic}{letter}" for letter in "abcdefghi"[:PROMPT_WORDS]] for topic in range(TOPICS)]
VOCABULARY = [f"w{number:02d}" for number in range(WORDS)]
QUESTION = "judge {prompt} | {response_1} | {response_2}"
VERDICTS = ("first", "second")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<assistant> ' }}{{ m['content'] }} "
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


@cache
def _grammar() -> tuple[np.ndarray, np.ndarray]:
    """Transition probabilities [topics, words + 1, words] (the last row starts a response), values [topics, words]."""
    rng = np.random.default_rng(LANGUAGE_SEED)
    own, shared = rng.normal(size=(TOPICS, WORDS)), rng.normal(size=(1, WORDS))
    values = math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * shared
    allowed = np.zeros((WORDS + 1, WORDS), dtype=bool)
    for row in allowed:
        row[rng.choice(WORDS, SUCCESSORS, replace=False)] = True
    logits = rng.normal(size=(WORDS + 1, WORDS)) + 0.3 * values[:, None, :]
    weights = np.where(allowed, np.exp(logits), 0)
    return weights / weights.sum(-1, keepdims=True), values


def gold_reward(prompt: str, response: str) -> float:
    """The true reward: the mean value of the response's words for the prompt's topic.

    A response of fewer than six words is filled up to six with words worth −1, so that a single good word does not
    win; from there on length earns and costs nothing. A word that repeats the one before it, or is not the language's,
    is worth −1 too.
    """
    words = response.split()
    values = _grammar()[1][_topic(prompt)]
    worth = [
        -1.0 if word not in VOCABULARY or word == before else float(values[VOCABULARY.index(word)])
        for before, word in zip(["", *words], words, strict=False)
    ]
    missing = max(0, FULL_RESPONSE_WORDS - len(words))
    return (sum(worth) - missing) / (len(words) + missing)


def _topic(prompt: str) -> int:
    return int(prompt.split(maxsplit=1)[0][1])


def all_prompts() -> list[str]:
    """Every prompt there is: three different words of one topic, in any order."""
    return [" ".join(words) for topic in TOPIC_WORDS for words in permutations(topic, 3)]


def write_response(prompt: str, rng: np.random.Generator) -> str:
    """A chain of 4 to 16 words that the grammar allows, with a slight leaning towards the topic's."""
    transitions = _grammar()[0][_topic(prompt)]
    words = [WORDS]
    for _ in range(rng.integers(FEWEST_WORDS, MOST_WORDS + 1)):
        words.append(int(rng.choice(WORDS, p=transitions[words[-1]])))
    return " ".join(VOCABULARY[word] for word in words[1:])


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    specials = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>"]
    words = [*specials, *VOCABULARY, *(word for topic in TOPIC_WORDS for word in topic), "judge", "|", *VERDICTS]
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
