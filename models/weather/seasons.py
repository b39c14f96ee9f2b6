"""How the forecast ages: the table in README.md, month by month, frozen against retrained.

Both columns come from the training script's own functions, its held-out stretch included: *frozen* is the job run on
January and February, *retrained* the job run on everything before the month. Neither has seen the month it is judged on.

    python seasons.py
"""

import training  # first: it settles the number of threads before numpy is imported

# isort: split
from datetime import UTC, datetime

import artifacts
import data
import judging
from sklearn.pipeline import Pipeline

YEAR = 2013


def fitted_before(examples: data.Examples, month: int, chosen: training.Hyperparameters) -> Pipeline:
    """What a job that runs on the first of a month would fit."""
    known = examples.where(examples.hours < data.hour_of(datetime(YEAR, month, 1, tzinfo=UTC)))
    return training.fit(judging.split_by_time(known, chosen.holdout_days).training, chosen)


def of_month(examples: data.Examples, month: int) -> data.Examples:
    """One month's examples."""
    first = data.hour_of(datetime(YEAR, month, 1, tzinfo=UTC))
    end = data.hour_of(datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC))
    return examples.where((examples.hours >= first) & (examples.hours < end))


def judged(pipeline: Pipeline, month: data.Examples) -> judging.Score:
    """One cell of the table."""
    return judging.score(month.label, pipeline.predict_proba(month.features)[:, artifacts.LOW])


def main() -> int:
    """Print the table in Markdown."""
    chosen = training.Hyperparameters()
    examples = data.all_examples(data.read_package())
    frozen = fitted_before(examples, 3, chosen)
    print("| month | hours | low | frozen: log loss | AUC | retrained: log loss | AUC |\n|---|---|---|---|---|---|---|")
    for number in range(3, 13):
        month = of_month(examples, number)
        before, after = judged(frozen, month), judged(fitted_before(examples, number, chosen), month)
        print(
            f"| {datetime(YEAR, number, 1, tzinfo=UTC):%B} | {len(month)} | {month.label.mean():.0%} "
            f"| {before.log_loss:.3f} | {before.auc:.3f} | {after.log_loss:.3f} | {after.auc:.3f} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
