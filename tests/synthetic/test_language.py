"""The synthetic language: its truth by hand, and what the preparation promises of its data."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import linregress, spearmanr

from selfie.config.parameters import SyntheticParameters
from selfie.errors import ConfigurationError
from selfie.pipelines.preparation.nodes import make_language, write_verdict
from selfie.synthetic.language import (
    QUESTION,
    TOPICS,
    VERDICTS,
    VOCABULARY,
    all_prompts,
    gold_reward,
    make_tokenizer,
    write_response,
)

SMALL = SyntheticParameters(corpus=300, verdicts=100, labelled_pairs=40, prompts=200, evaluation_prompts=50)


def value(word: str, topic: int = 0) -> float:
    """What a word is worth: it appears once among strange words, five of them, each worth −1."""
    return 6 * gold_reward(f"t{topic}a", f"{word} ? ? ? ? ?") + 5


def test_gold_reward_by_hand():
    """Means of words' values; a repetition, a strange word and each word missing to six are worth −1."""
    a, b, c = (value(word) for word in ("w01", "w02", "w03"))
    assert len({a, b, c}) == 3
    by_hand = {
        "w01 w02 w03 w01 w02 w03": (2 * a + 2 * b + 2 * c) / 6,
        "w01 w02 w03 w01 w02 w03 w01": (3 * a + 2 * b + 2 * c) / 7,
        "w01 w01 w02 w03 w02 w03": (a - 1 + 2 * b + 2 * c) / 6,
        "w01 w01 w01 w02 w03 w02": (a - 2 + 2 * b + c) / 6,
        "w01 w02 w03 w01 w02 strange": (2 * a + 2 * b + c - 1) / 6,
        "w01 t0a w02 w03 w01 w02": (2 * a - 1 + 2 * b + c) / 6,
        "w01": (a - 5) / 6,
        "w01 w01": (a - 1 - 4) / 6,
        "": -1.0,
    }
    for response, expected in by_hand.items():
        assert gold_reward("t0a t0b t0c", response) == pytest.approx(expected), response


def test_the_topic_decides_and_not_the_prompts_words():
    response = "w01 w02 w03 w04 w05 w06"
    rewards = {gold_reward(prompt, response) for prompt in ("t0a t0b t0c", "t0i t0c t0h")}
    assert len(rewards) == 1
    assert len({gold_reward(f"t{topic}a", response) for topic in range(TOPICS)}) == TOPICS


def test_words_are_worth_much_the_same_for_every_topic():
    """80% of the variance is shared: values of two topics correlate, and differ."""
    values = np.array([[value(word, topic) for word in VOCABULARY] for topic in range(TOPICS)])
    correlations = np.corrcoef(values)[np.triu_indices(TOPICS, 1)]
    assert correlations.mean() == pytest.approx(0.8, abs=0.1)
    assert correlations.max() < 0.95
    assert values.std() == pytest.approx(1.0, abs=0.25)


def test_no_length_pays():
    """Over chains of 6 words and more the mean reward has no slope; shorter ones are worth less."""
    rng = np.random.default_rng(0)
    prompts = rng.choice(all_prompts(), 6000)
    responses = [write_response(str(prompt), rng) for prompt in prompts]
    lengths = np.array([len(response.split()) for response in responses])
    rewards = np.array([gold_reward(str(p), r) for p, r in zip(prompts, responses, strict=True)])
    assert (lengths.min(), lengths.max()) == (4, 16)
    whole = lengths >= 6
    line = linregress(lengths[whole], rewards[whole])
    assert abs(line.slope) < 3 * line.stderr
    assert 10 * line.stderr < 0.1 * rewards[whole].std()  # else a slope could hide: 10 words are worth less than this
    for length in range(6, 17):
        these = rewards[lengths == length]
        assert these.mean() == pytest.approx(rewards[whole].mean(), abs=4 * these.std() / len(these) ** 0.5)
    assert rewards[lengths == 4].mean() < rewards[lengths == 5].mean() < rewards[whole].mean() - 0.1


def test_chains_obey_the_grammar_and_lean_to_the_topic():
    """At most twelve words follow a word; the corpus favours the topic's good words only a little."""
    rng = np.random.default_rng(0)
    followers: dict[str, set[str]] = {}
    used = {topic: dict.fromkeys(VOCABULARY, 0) for topic in range(TOPICS)}
    for topic, _ in product(range(TOPICS), range(700)):
        words = write_response(f"t{topic}a t{topic}b t{topic}c", rng).split()
        for before, word in zip(["", *words], words, strict=False):
            followers.setdefault(before, set()).add(word)
            used[topic][word] += 1
    assert set(followers) == {"", *VOCABULARY}
    assert max(len(words) for words in followers.values()) == 12
    for topic in range(TOPICS):
        ranked = spearmanr([used[topic][word] for word in VOCABULARY], [value(word, topic) for word in VOCABULARY])
        assert 0 < ranked.statistic < 0.8


def test_every_word_is_one_token():
    """Of prompts, responses and the judge's question; nothing is unknown."""
    tokenizer = make_tokenizer()
    question, verdict = write_verdict("t0a t1b t3i", "w01 w02", "w31")
    for text in (*all_prompts(), " ".join(VOCABULARY), question, *VERDICTS):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split())
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer(question)["input_ids"]) == question
    assert verdict in VERDICTS


@pytest.fixture(scope="module")
def language():
    return make_language(SMALL, seed=0)


def test_as_much_as_was_asked_for(language):
    corpus = language[0]
    assert [len(part) for part in language] == [400, 40, 200, 50]
    assert sum(row["prompt"].startswith("judge ") for row in corpus) == 100


def test_no_prompt_is_in_two_places(language):
    """Where there are prompts enough for all three."""
    _, *parts = language
    ids = [part["prompt_id"][:] for part in parts]
    together = [prompt for part in ids for prompt in part]
    assert len(set(together)) == len(together) == 290
    assert set(together) < set(all_prompts())


def test_if_all_are_labelled_only_the_evaluation_stays_apart():
    """As in conf/synthetic: the first pairs are the seeds, and no iteration's prompt is among theirs."""
    amounts = SyntheticParameters(corpus=1, verdicts=0, labelled_pairs=1800, prompts=1740, evaluation_prompts=200)
    _, pairs, prompts, evaluation = (set(part.to_pandas().iloc[:, 0]) for part in make_language(amounts, seed=0))
    seeds = set(make_language(amounts, seed=0)[1]["prompt_id"][:60])
    assert not evaluation & (pairs | prompts)
    assert not seeds & prompts
    assert len(pairs & prompts) == 1740 - (2016 - 1800 - 200)


def test_the_amount_of_labels_changes_nothing_else(language):
    """Methods that use more labels see the same first pairs, prompts and evaluation."""
    more = make_language(SMALL.model_copy(update={"labelled_pairs": 120}), seed=0)
    assert more[1].to_list()[:40] == language[1].to_list()
    for before, after in zip(language[2:] + language[:1], more[2:] + more[:1], strict=True):
        assert after.to_list() == before.to_list()


def test_the_seed_decides(language):
    again, other = make_language(SMALL, seed=0), make_language(SMALL, seed=1)
    for part, same, different in zip(language, again, other, strict=True):
        assert same.to_list() == part.to_list()
        assert different.to_list() != part.to_list()


def test_labels_are_true(language):
    for row in language[1]:
        prompt = row["messages"][-1]["content"]
        assert gold_reward(prompt, row["chosen"]) > gold_reward(prompt, row["rejected"])


def test_the_corpus_judges_truly(language):
    """Its verdicts name the better response, and are not always the same."""
    verdicts = [row for row in language[0] if row["prompt"].startswith("judge ")]
    for row in verdicts:
        prompt, first, second = row["prompt"].removeprefix("judge ").split(" | ")
        assert row["prompt"] == QUESTION.format(prompt=prompt, response_1=first, response_2=second)
        better = VERDICTS[0] if gold_reward(prompt, first) >= gold_reward(prompt, second) else VERDICTS[1]
        assert row["response"] == better
    share = np.mean([row["response"] == VERDICTS[0] for row in verdicts])
    assert 0.3 < share < 0.7


def test_more_prompts_than_the_language_has_are_refused():
    """2,016 prompts: more would put training prompts into the evaluation."""
    amounts = SyntheticParameters(corpus=10, verdicts=0, labelled_pairs=1900, prompts=100, evaluation_prompts=200)
    with pytest.raises(ConfigurationError, match=r"asks for 2100 prompts, the language has 2016"):
        make_language(amounts, 0)
