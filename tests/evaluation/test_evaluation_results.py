import numpy as np
import pytest
from results import made_results

from inverters.evaluation.results import mean_interval


def test_the_interval_is_that_of_an_independent_bootstrap() -> None:
    """Efron 1979, written out: the 2.5th and 97.5th percentiles of the means of resampled values."""
    values = np.random.default_rng(1).exponential(3.0, 12)
    random = np.random.default_rng(7)
    means = sorted(values[random.integers(12, size=12)].mean() for _ in range(20_000))
    found = mean_interval(values.tolist(), seed=0)
    assert found.mean == pytest.approx(values.mean())
    length = means[19_500] - means[500]
    assert found.low == pytest.approx(means[500], abs=length / 10)
    assert found.high == pytest.approx(means[19_500], abs=length / 10)
    assert found.images == 12


def test_the_interval_of_many_values_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(20, 3, 100).tolist()
    found = mean_interval(values, seed=0)
    half = 1.96 * np.std(values) / 10
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.15)
    assert mean_interval(values, seed=0) == found
    assert mean_interval(values, seed=1) != found


def test_equal_values_have_an_interval_of_no_length() -> None:
    assert mean_interval([7.0] * 5, seed=0) == (7.0, 7.0, 7.0, 5)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_few_images_have_a_mean_and_no_interval(count: int) -> None:
    assert mean_interval([1.0, 2.0, 3.0, 6.0][:count], seed=0)[1:] == (None, None, count)


def test_a_method_without_records_is_absent() -> None:
    results = made_results({"relu1_2": {"decoder": 30.0}, "relu2_2": {"decoder": 20.0, "linear": 10.0}})
    assert list(results.summary["relu1_2"]) == ["decoder"]
    assert list(results.error_spectra("relu2_2")) == ["decoder", "linear"]
    assert results.means("relu2_2", "psnr") == {"decoder": 20.0, "linear": 10.0}


def test_means_are_best_first() -> None:
    results = made_results({"relu1_2": {"decoder": 10.0, "linear": 20.0}})
    assert list(results.means("relu1_2", "psnr")) == ["linear", "decoder"]
    errors = made_results({"relu1_2": {"decoder": 10.0, "linear": 20.0}}, {"relu1_2": {"decoder": 0.1, "linear": 0.2}})
    assert list(errors.means("relu1_2", "feature_error")) == ["decoder", "linear"]
