"""How sure, how often and how much: what an owner may set about decisions."""

from dataclasses import dataclass
from datetime import timedelta

from flows.errors import Misconfigured
from flows.pipeline import Pipeline


@dataclass(frozen=True)
class FeedRules:
    """How far a day's feed may stray from the reference; shares of the day's rows.

    Days with fewer than `min_rows` are too small to judge.
    """

    missing_jump: float = 0.1
    outside_jump: float = 0.05
    min_rows: int = 50


@dataclass(frozen=True)
class MonitorRules:
    """When an alarm becomes a retraining.

    checks_per_false_alarm: about one check in so many alarms without cause.
    material_nats: a challenger's advantage, or a rise in loss, below this is not worth a release.
    material_bias: a mean gap between labels and scores below this is not worth one either.
    failure_nats: excess loss, over a fresh model, that counts as failure when grading.
    feed_memory: a breach further than this from the window's end is noted and blocks no more.
    labelled_share: share of a window's rows with labels before labels decide.
    confirmations: consecutive windows that must alarm (debounce).
    cool_down: no second retraining within this time of event time.
    retrain_budget: retrainings allowed in any `budget_period`.
    flight_deadline: a retraining unfinished for longer no longer blocks the next.
    challenger_window: how far before the window a challenger learns; a season's worth, which is
        enough to learn from, recent enough to differ, and cheap enough to fit every time.
    feed: what the feed of a served feature promises.
    Raises: Misconfigured for numbers that cannot be kept.
    """

    checks_per_false_alarm: int = 200
    material_nats: float = 0.002
    material_bias: float = 0.02
    failure_nats: float = 0.015
    feed_memory: timedelta = timedelta(days=7)
    labelled_share: float = 0.5
    confirmations: int = 1
    cool_down: timedelta = timedelta(days=7)
    retrain_budget: int = 4
    budget_period: timedelta = timedelta(days=90)
    flight_deadline: timedelta = timedelta(days=2)
    challenger_window: timedelta = timedelta(days=90)
    feed: FeedRules = FeedRules()

    def __post_init__(self) -> None:
        if self.checks_per_false_alarm < 2 or self.confirmations < 1 or self.retrain_budget < 0:
            raise Misconfigured(
                "monitor rules are out of range",
                remedy="checks_per_false_alarm >= 2, confirmations >= 1, retrain_budget >= 0",
            )

    @classmethod
    def of(cls, pipeline: Pipeline) -> "MonitorRules":
        """The rules with what the pipeline's definition sets of them."""
        return cls(checks_per_false_alarm=pipeline.checks_per_false_alarm)
