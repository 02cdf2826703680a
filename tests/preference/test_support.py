import pytest
import torch

from selfie.preference.support import outside_support, response_statistics, support_bounds


def test_statistics_by_hand():
    statistics = response_statistics([[5, 6, 5, 6, 5], [7]], torch.tensor([-10.0, -3.0]))
    # pairs 56 65 56 65: two different ones of four; a single token has no pair
    assert statistics.tolist() == [[5.0, 0.5, -2.0], [1.0, 0.0, -3.0]]
    assert statistics.dtype == torch.float64
    assert response_statistics([[5, 5, 5, 5]], torch.tensor([-1.0]))[0, 1].item() == 1 - 1 / 3  # to float64's last bit


def test_bounds_leave_the_percentile_on_both_sides():
    statistics = torch.arange(101, dtype=torch.float64).unsqueeze(1)
    assert support_bounds(statistics, 10.0).tolist() == [[10.0], [90.0]]


@pytest.mark.parametrize("value, outside", [(9.9, True), (10.0, False), (90.0, False), (90.1, True)])
def test_beyond_a_bound_is_outside(value, outside):
    bounds = torch.tensor([[10.0, 0.0], [90.0, 1.0]])
    assert outside_support(torch.tensor([[value, 0.5]]), bounds).tolist() == [outside]


def test_one_statistic_beyond_its_bounds_suffices():
    bounds = torch.tensor([[10.0, 0.0], [90.0, 1.0]])
    assert outside_support(torch.tensor([[50.0, 1.5]]), bounds).tolist() == [True]
