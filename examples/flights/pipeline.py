"""Will this flight arrive more than 15 minutes late? The whole pipeline in one place."""

from collections.abc import Mapping
from datetime import timedelta

from examples.flights.contracts import Arrivals, Flights, Planes, Weather
from examples.flights.views import REQUEST, VIEWS, departures, lateness
from flows.pipeline import Dataset, Estimator, Gate, Param, Pipeline


def boosted_trees(hyperparameters: Mapping[str, Param]) -> Estimator:
    """Gradient-boosted trees: they take nulls as they come and need no scaling."""
    # Most stages read this definition and never fit: they need not import scikit-learn.
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees: Estimator = HistGradientBoostingClassifier(**hyperparameters)
    return trees


pipeline = Pipeline(
    name="flights",
    positive="late",
    base_rate=0.23,
    datasets=(
        Dataset(name="flights", contract=Flights, event_time="scheduled_departure"),
        Dataset(name="arrivals", contract=Arrivals, event_time="known_at"),
        Dataset(name="weather", contract=Weather, event_time="observed_at"),
        Dataset(name="planes", contract=Planes),
    ),
    key="flight_id",
    entities=departures,
    labels=lateness,
    views=VIEWS,
    features=(*REQUEST, *(name for view in VIEWS for name in view.features)),
    categorical=("carrier", "origin", "dest"),
    estimator=boosted_trees,
    hyperparameters={
        "learning_rate": 0.08,
        "max_iter": 120,
        "min_samples_leaf": 60,
        "l2_regularization": 1.0,
        "early_stopping": False,
    },
    holdout=timedelta(days=14),
    # The year is judged month by month: a false alarm in two years is what we accept.
    checks_per_false_alarm=24,
    gates=(
        Gate("roc_auc", ">=", "0.65"),
        Gate("log_loss", "<=", "0.62"),
        Gate("brier", "<=", "0.21"),
        Gate("calibration_error", "<=", "0.12"),
        Gate("base_rate_gap", "<=", "0.12"),
        Gate("single_feature_roc_auc", "<=", "0.95"),
        Gate("roc_auc", "<=", "0.30", group_by="carrier"),
        Gate("onnx_max_abs_diff", "<=", "0.00001"),
        Gate("model_bytes", "<=", "20000000"),
        Gate("row_latency_us", "<=", "5000"),
    ),
)
