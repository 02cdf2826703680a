"""Length-controlled win rates: AlpacaEval 2's own fit, and an estimate of it for those who lack its calibration file.

AlpacaEval 2 (Dubois et al., arXiv 2404.04475, Eq. 2; `alpaca_eval` 0.6.6, `metrics/glm_winrate.py`) explains a model's
preferences by a logistic regression and reports what it predicts between answers of equal length:

    logit P(model wins x) = length · tanh(Δ_x / std(Δ)) + difficulty · γ_x + intercept,    Δ_x = len_1 − len_2

Two things in it come from a file on the Hugging Face hub, `df_gamed.csv`: how hard each instruction is (γ), and 1,610
annotations of a concise and a verbose GPT-4, which enter with weight 0.1 and without the intercept and so hold the
first two coefficients near what makes GPT-4 Turbo, as a judge, prefer long answers.

- :func:`length_controlled_win_rate_glm` is that fit, for those who have the file.
- :func:`estimate_length_controlled_win_rate` does without. γ is a latent variable of the annotations given (a
  two-parameter logistic model of item response), and a normal prior stands for the gamed annotations. On the 12 models
  it was made with, the estimate is 0.5 points off the published figure on average, 1.5 at most.

Annotations are frames of `index` (the instruction), `len_1` and `len_2` (characters of the reference's answer and of
the model's) and `preference` (1: the reference wins; 2: the model wins; 0, as AlpacaEval 1 wrote it, a draw; NaN or −1:
the judge had none). The order of rows never matters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from selfie.errors import DataError

Array = NDArray[np.float64]

ANNOTATION_COLUMNS = ("index", "len_1", "len_2", "preference")
GAMED_COLUMNS = ("index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "preference")

# The published fit: 0.2 shared by two gamed baselines; sklearn's grid of penalties; five folds; one seed.
_GAMED_WEIGHT = 0.1
_PENALTIES = np.logspace(-4, 4, 10)
_FOLDS = 5
_LIBLINEAR_SEED = 123

# The estimate: what the gamed annotations ask of length, difficulty, intercept, and how firmly. The length coefficient
# was fitted to published figures (a grid from −1.3 to −1.7 on 12 models; leaving one out always chooses −1.5); the rest
# is reasoned, and half or double the precisions moves the mean error by no more than 0.2 points. γ has a spread of one
# and, as the hub's was fitted, a slope of one in the average model. A row of a logistic regression weighs w·p(1 − p)
# times its squared feature: 1,610 · 0.1 · 0.2 ≈ 30 for γ, and two thirds of it for tanh. The intercept's prior only
# keeps it finite where a model never wins.
_PRIOR_MEAN = np.array([-1.5, 1.0, 0.0])
_PRIOR_PRECISION = np.diag([20.0, 30.0, 1e-3])

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_TOLERANCE = 1e-5
_MAX_ROUNDS = 300
_LONGEST_STEP = 1.0
_OVER_RELAXATION = 1.6  # expectation-maximisation alone crawls along the regression of γ on the reference's length

_CHUNK = 50  # resamples predicted at once, to bound memory


@dataclass(frozen=True)
class _Rows:
    """A model's annotations in the order of their index."""

    index: NDArray[np.int64]
    reference_length: Array
    length: Array  # tanh of the standardised difference; positive where the reference is longer
    wins: Array  # in [0, 1]; NaN where the judge had no preference

    @property
    def judged(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.wins)

    @property
    def win_rate(self) -> float:
        return float(np.nanmean(self.wins))


@dataclass(frozen=True)
class _Fit:
    """A fitted model: γ of each row is known up to a distribution over nodes (one node where it is known)."""

    rows: _Rows
    coefficients: Array  # length, difficulty, intercept
    difficulty: Array  # (rows, nodes)
    probability: Array  # (rows, nodes)
    prior_curvature: Array  # (3, 3): of all that isn't the model's own rows
    nothing_to_control: bool

    def win_rate(self) -> float:
        """Predicted between answers of equal length, in [0, 1]; the plain win rate where there's nothing to control."""
        if self.nothing_to_control:
            return self.rows.win_rate
        _, difficulty, intercept = self.coefficients
        return float((self.probability * expit(difficulty * self.difficulty + intercept)).sum(1).mean())


def length_controlled_win_rate_glm(annotations: pd.DataFrame, gamed: pd.DataFrame) -> float:
    """AlpacaEval 2's length-controlled win rate in percent.

    Equal to `alpaca_eval` 0.6.6's `get_length_controlled_winrate` on the same annotations in the order of their index.
    That function's result depends on the order: the folds that choose the penalty are dealt by position, and liblinear
    stops short of the optimum by an amount that depends on it. Like it, this counts annotations without a preference
    in the spread of lengths and in the mean of the predictions. Unlike it, it looks difficulties up by the gamed file's
    `index`, not by the position of its rows, and answers with the plain win rate where all length differences are equal
    (0.6.6 divides by zero).

    Args:
        annotations: of one model; see the module's description.
        gamed: `df_gamed.csv` as it is, in the order of its rows: `index`, `std_delta_len`, `instruction_difficulty`,
            `not_gamed_baseline`, `preference` in [0, 1].

    Raises:
        DataError: an instruction is twice among the annotations, or unknown to the gamed file; a preference out of
            range; no preference at all.
    """
    return 100 * _fit_glm(_rows("annotations", annotations), gamed).win_rate()


def estimate_length_controlled_win_rate(annotations: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Our own estimate, in percent, of each model's length-controlled win rate on AlpacaEval 2's leaderboard.

    All models are fitted together, which is how γ is learnt, and one alone will do: its γ is then what its own
    annotations say and the prior, N(β · tanh(len_1 / std(len_1)), 1), allows. The reference's length is in that prior
    because it is in the hub's γ: it is what the length differences of all short answers have in common, and a fit that
    gives it to the length coefficient overestimates every short answer. Fitted by expectation-maximisation with γ
    integrated out on 15 Gauss–Hermite nodes (Bock and Aitkin, Psychometrika 46, 1981).

    Judge and reference are taken to be AlpacaEval 2's: another judge may care less for length. Where annotations are
    missing, the published figure itself may be off: `alpaca_eval` numbers annotations without an `index` by position,
    so that all after the gap get another instruction's γ.

    Args:
        annotations: by model, all against the same reference; see the module's description.

    Raises:
        DataError: as :func:`length_controlled_win_rate_glm`.
    """
    fits = _fit_estimate({name: _rows(name, frame) for name, frame in annotations.items()})
    return {name: 100 * fit.win_rate() for name, fit in fits.items()}


def evaluate(
    annotations: Mapping[str, pd.DataFrame], gamed: pd.DataFrame | None = None, samples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Win rates in percent with 95% percentile bootstrap intervals over instructions.

    The same instructions are drawn for every model, so that intervals of differences would be paired. A resample costs
    one Newton step from the fit to all annotations, with the difficulties, the penalty and the scale of the length
    differences as they are in that fit. Refits spread as far, or up to a fifth farther.

    Args:
        annotations: by model; see the module's description.
        gamed: `df_gamed.csv`, for AlpacaEval 2's own fit; the estimate without it.
        samples: the number of resamples.
        seed: theirs.

    Returns:
        By model: ``win_rate``, ``win_rate_ci``, ``length_controlled_win_rate``, ``length_controlled_win_rate_ci``,
        ``length_controlled_by`` ("glm": the published method; "estimate": ours), ``n`` annotations with a preference
        and ``n_unjudged`` without.

    Raises:
        DataError: as :func:`length_controlled_win_rate_glm`.
    """
    rows = {name: _rows(name, frame) for name, frame in annotations.items()}
    if gamed is None:
        fits = _fit_estimate(rows)
    else:
        fits = {name: _fit_glm(model, gamed, name) for name, model in rows.items()}
    instructions = np.unique(np.concatenate([model.index for model in rows.values()]))
    draws = np.random.default_rng(seed).multinomial(
        len(instructions), np.full(len(instructions), 1 / len(instructions)), size=samples
    )
    results = {}
    for name, fit in fits.items():
        judged = fit.rows.judged
        plain, controlled = _resampled_win_rates(fit, draws[:, np.searchsorted(instructions, fit.rows.index)])
        results[name] = {
            "win_rate": 100 * fit.rows.win_rate,
            "win_rate_ci": _interval(plain),
            "length_controlled_win_rate": 100 * fit.win_rate(),
            "length_controlled_win_rate_ci": _interval(controlled),
            "length_controlled_by": "estimate" if gamed is None else "glm",
            "n": int(judged.sum()),
            "n_unjudged": int((~judged).sum()),
        }
    return results


def _rows(name: str, annotations: pd.DataFrame) -> _Rows:
    """The regression's features and labels."""
    if annotations["index"].duplicated().any():
        twice = annotations["index"][annotations["index"].duplicated()].iloc[0]
        raise DataError(name, f"index {twice} appears more than once", "keep one annotation for each instruction")
    ordered = annotations.sort_values("index")
    preference = ordered["preference"].to_numpy(float)
    preference = np.where(preference == -1, np.nan, np.where(preference == 0, 1.5, preference))
    outside = (preference < 1) | (preference > 2)  # noqa: PLR2004 - AlpacaEval's range
    if outside.any():
        row = ordered[outside].iloc[0]
        raise DataError(
            name, f"index {row['index']:.0f}: preference {row['preference']}", "it must lie in [1, 2], or be NaN or -1"
        )
    if np.isnan(preference).all():
        raise DataError(name, "no annotation has a preference", "annotate at least one answer")
    reference_length = ordered["len_1"].to_numpy(float)
    difference = reference_length - ordered["len_2"].to_numpy(float)
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    length = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    return _Rows(ordered["index"].to_numpy(int), reference_length, length, preference - 1)


def _fit_glm(rows: _Rows, gamed: pd.DataFrame, name: str = "annotations") -> _Fit:
    """The published fit: an L1 penalty chosen by five-fold cross-validation."""
    difficulties = gamed.drop_duplicates("index").set_index("index")["instruction_difficulty"]
    unknown = ~np.isin(rows.index, difficulties.index)
    if unknown.any():
        raise DataError(
            name, f"index {rows.index[unknown][0]} is not in the gamed file", "annotate AlpacaEval's own instructions"
        )
    difficulty = difficulties.loc[rows.index].to_numpy(float)
    own = np.column_stack([rows.length, difficulty, np.ones_like(difficulty)])
    # Patsy's columns: the gamed baselines have no intercept.
    theirs = gamed[["std_delta_len", "instruction_difficulty", "not_gamed_baseline"]].to_numpy(float)
    theirs[:, 0] = np.tanh(theirs[:, 0])
    features = np.concatenate([theirs, own])
    wins = np.concatenate([gamed["preference"].to_numpy(float), rows.wins])
    weight = np.concatenate([np.full(len(theirs), _GAMED_WEIGHT), np.ones(len(own))])
    judged = ~np.isnan(wins)
    coefficients = _cross_validated_logistic(features[judged], wins[judged], weight[judged])

    theirs = theirs[judged[: len(theirs)]]
    chance = expit(theirs @ coefficients)
    curvature = (theirs * (_GAMED_WEIGHT * chance * (1 - chance))[:, None]).T @ theirs
    return _Fit(rows, coefficients, difficulty[:, None], np.ones((len(own), 1)), curvature, not rows.length.any())


def _cross_validated_logistic(features: Array, wins: Array, weight: Array) -> Array:
    """What sklearn's LogisticRegressionCV finds with fractional labels, scored by their log loss.

    Each row stands twice, as a win with its share of wins and as a loss with the rest; a fold keeps both together.
    """
    doubled = np.concatenate([features, features])
    won = np.repeat([1, 0], len(wins))
    share = np.concatenate([wins, 1 - wins])
    weight = np.concatenate([weight, weight])

    def fit(rows: NDArray[np.int64], penalty: float, random: np.random.RandomState | int) -> Array:
        regression = LogisticRegression(
            C=penalty, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=random
        )
        return regression.fit(doubled[rows], won[rows], sample_weight=(weight * share)[rows]).coef_[0]

    scores = np.zeros(len(_PENALTIES))
    for train, test in GroupKFold(_FOLDS).split(doubled, groups=np.tile(np.arange(len(wins)), 2)):
        random = np.random.RandomState(_LIBLINEAR_SEED)  # runs on along the grid, as in sklearn
        for position, penalty in enumerate(_PENALTIES):
            chance = np.clip(expit(doubled[test] @ fit(train, penalty, random)), 1e-15, 1 - 1e-15)
            label = np.where(won[test] == 1, share[test], 1 - share[test])
            loss = label * np.log(chance) + (1 - label) * np.log(1 - chance)
            scores[position] += (weight[test] * loss).mean()
    return fit(np.arange(len(doubled)), _PENALTIES[scores.argmax()], _LIBLINEAR_SEED)


def _fit_estimate(models: Mapping[str, _Rows]) -> dict[str, _Fit]:
    """All models' coefficients and the distribution of γ."""
    names = sorted(models)
    instructions = np.unique(np.concatenate([models[name].index for name in names]))
    length, wins, reference = (np.full((len(names), len(instructions)), np.nan) for _ in range(3))
    columns = {name: np.searchsorted(instructions, models[name].index) for name in names}
    for position, name in enumerate(names):
        rows = models[name]
        length[position, columns[name]] = rows.length
        wins[position, columns[name]] = rows.wins
        reference[position, columns[name]] = rows.reference_length
    coefficients, difficulty, probability = _expectation_maximisation(
        np.nan_to_num(length), wins, _reference_covariate(np.nanmedian(reference, axis=0))
    )
    fits = {}
    for name, row_coefficients in zip(names, coefficients, strict=True):
        rows, own = models[name], columns[name]
        nothing = not rows.length.any() or np.nanmin(rows.wins) == np.nanmax(rows.wins)
        fits[name] = _Fit(rows, row_coefficients, difficulty[own], probability[own], _PRIOR_PRECISION, nothing)
    return {name: fits[name] for name in models}


def _reference_covariate(reference_length: Array) -> Array:
    """The length feature of an empty answer, centred: what the features of all short answers share."""
    spread = reference_length.std()
    covariate = np.tanh(reference_length / spread) if spread > 0 else np.zeros_like(reference_length)
    return covariate - covariate.mean()


def _expectation_maximisation(length: Array, wins: Array, covariate: Array) -> tuple[Array, Array, Array]:
    """Maximises the penalised marginal likelihood.

    Args:
        length: (models, instructions).
        wins: the same; NaN where there is no annotation.
        covariate: (instructions,).

    Returns:
        The coefficients (models, 3), γ's nodes and their probability (instructions, nodes).
    """
    coefficients = np.tile(_PRIOR_MEAN, (len(wins), 1))
    coefficients[:, 2] = logit(np.clip(np.nanmean(wins, axis=1), 0.01, 0.99))
    slope = 0.0
    for _ in range(_MAX_ROUNDS):
        difficulty = slope * covariate[:, None] + _NODES
        probability = _posterior(length, wins, coefficients, difficulty)
        expected = (probability * difficulty).sum(1)
        new_slope = covariate @ expected / max(covariate @ covariate, np.finfo(float).tiny)
        slope_step = _OVER_RELAXATION * (new_slope - slope)
        slope += slope_step

        difficulty = slope * covariate[:, None] + _NODES
        probability = _posterior(length, wins, coefficients, difficulty)
        previous = coefficients
        for _ in range(2):
            gradient, curvature = _derivatives(length, wins, coefficients, difficulty, probability)
            gradient = gradient.sum(1) - (coefficients - _PRIOR_MEAN) @ _PRIOR_PRECISION
            step = np.linalg.solve(curvature.sum(1) + _PRIOR_PRECISION, gradient[..., None])[..., 0]
            coefficients = coefficients + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if max(abs(slope_step), np.abs(coefficients - previous).max()) < _TOLERANCE:
            break
    return coefficients, difficulty, probability


def _log_odds(length: Array, coefficients: Array, difficulty: Array) -> Array:
    """(models, instructions, nodes)."""
    by_length, by_difficulty, intercept = coefficients.T[:, :, None, None]
    return by_length * length[..., None] + by_difficulty * difficulty + intercept


def _posterior(length: Array, wins: Array, coefficients: Array, difficulty: Array) -> Array:
    """The probability of γ's nodes given all models' annotations: (instructions, nodes)."""
    log_odds = _log_odds(length, coefficients, difficulty)
    likelihood = np.nansum(wins[..., None] * log_odds - np.logaddexp(0, log_odds), axis=0)
    likelihood += np.log(_NODE_WEIGHTS)
    probability = np.exp(likelihood - likelihood.max(1, keepdims=True))
    return probability / probability.sum(1, keepdims=True)


def _derivatives(
    length: Array, wins: Array, coefficients: Array, difficulty: Array, probability: Array
) -> tuple[Array, Array]:
    """Of the expected log-likelihood in the coefficients, row by row: gradient (models, instructions, 3), curvature
    (models, instructions, 3, 3).
    """
    chance = expit(_log_odds(length, coefficients, difficulty))
    weight = ~np.isnan(wins)[..., None] * probability
    residual = weight * np.nan_to_num(wins[..., None] - chance)
    variance = weight * chance * (1 - chance)
    sums = residual.sum(2)
    gradient = np.stack([sums * length, (residual * difficulty).sum(2), sums], axis=-1)
    mass = variance.sum(2)
    first, second = (variance * difficulty).sum(2), (variance * difficulty**2).sum(2)
    curvature = np.empty((*mass.shape, 3, 3))
    curvature[..., 0, 0], curvature[..., 1, 1], curvature[..., 2, 2] = mass * length**2, second, mass
    curvature[..., 0, 1] = curvature[..., 1, 0] = first * length
    curvature[..., 0, 2] = curvature[..., 2, 0] = mass * length
    curvature[..., 1, 2] = curvature[..., 2, 1] = first
    return gradient, curvature


def _resampled_win_rates(fit: _Fit, draws: NDArray[np.int64]) -> tuple[Array, Array]:
    """Plain and length-controlled win rates, in [0, 1], of the resamples that drew any of the model's judged rows.

    Args:
        fit: of the model.
        draws: how often each resample drew each of the model's rows: (samples, rows).
    """
    rows, judged = fit.rows, fit.rows.judged
    draws = draws[(draws[:, judged]).any(1)]
    plain = draws @ np.nan_to_num(rows.wins) / draws[:, judged].sum(1)
    if fit.nothing_to_control:
        return plain, plain
    gradient, curvature = _derivatives(
        rows.length[None], rows.wins[None], fit.coefficients[None], fit.difficulty, fit.probability
    )
    # The gradient of what isn't the model's own rows cancels theirs in the fit, and isn't resampled.
    gradients = (draws - 1) @ gradient[0]
    curvatures = np.tensordot(draws, curvature[0], 1) + fit.prior_curvature
    coefficients = fit.coefficients + np.linalg.solve(curvatures, gradients[..., None])[..., 0]
    controlled = np.empty(len(draws))
    for start in range(0, len(draws), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        equal_length = expit(_log_odds(np.zeros((1, len(rows.wins))), coefficients[chunk], fit.difficulty))
        predicted = (fit.probability * equal_length).sum(2)
        controlled[chunk] = (draws[chunk] * predicted).sum(1) / draws[chunk].sum(1)
    return plain, controlled


def _interval(win_rates: Array) -> list[float]:
    low, high = np.percentile(100 * win_rates, [2.5, 97.5])
    return [float(low), float(high)]
