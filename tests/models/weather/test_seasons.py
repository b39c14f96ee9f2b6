"""The reason for the whole loop, on real data: left alone the forecast ages, trained again it recovers."""

import data
import pytest
import seasons
import training


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_left_alone_it_ages_and_trained_again_it_recovers(stations: list[data.Observations]) -> None:
    chosen = training.Hyperparameters()
    examples = data.all_examples(stations)
    frozen = seasons.fitted_before(examples, 3, chosen)
    march = seasons.judged(frozen, seasons.of_month(examples, 3))
    july = seasons.of_month(examples, 7)
    aged, recovered = seasons.judged(frozen, july), seasons.judged(seasons.fitted_before(examples, 7, chosen), july)
    assert aged.log_loss > 1.7 * march.log_loss
    assert recovered.log_loss < 0.75 * aged.log_loss
    assert recovered.auc > aged.auc + 0.03
