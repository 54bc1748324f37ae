"""Feature store: named features with an event time, joined as they were known.

A view is a polars expression over datasets. Training reads it through
`get_historical_features`, serving through `OnlineStore`; both read the same table,
so a value served is the value that training would have seen at that moment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from storage.errors import Refused

Frames = Mapping[str, pl.LazyFrame]
Value = float | int | str | bool | None


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """Named features of an entity; `build` turns datasets into rows of keys, time, features.

    A value counts from its event time until `lifetime` later, both ends included, unless
    `strictly_before`: then a value stamped at the moment of prediction is not known yet.
    A view without `event_time` holds what never changes. `history` says how far before
    a value's event time its inputs reach, so that one month can be built without a year.
    """

    name: str
    keys: tuple[str, ...]
    features: Mapping[str, pl.DataType]
    build: Callable[[Frames], pl.LazyFrame]
    event_time: str | None = None
    lifetime: timedelta | None = None
    history: timedelta = timedelta(0)
    strictly_before: bool = True

    def __post_init__(self) -> None:
        if not self.keys or not self.features:
            raise Refused(f"feature view {self.name} needs at least one key and one feature")
        if self.event_time is None and self.lifetime is not None:
            raise Refused(
                f"feature view {self.name} has a lifetime but no event time",
                remedy="name the event time column, or drop the lifetime",
            )

    def table(self, frames: Frames) -> pl.LazyFrame:
        """Rows of keys, event time and features, sorted by time, one per key and time.

        Rows with a null key or time are left out: null is nobody's key.
        """
        columns = [*self.keys, *([self.event_time] if self.event_time else [])]
        built = self.build(frames)
        _require_columns(self, built.collect_schema())
        rows = built.select(*columns, *self.features).drop_nulls(columns)
        if self.event_time:
            rows = rows.sort(self.event_time, maintain_order=True)
        return rows.unique(columns, keep="last", maintain_order=True)


def get_historical_features(
    entities: pl.LazyFrame, views: Sequence[FeatureView], frames: Frames, *, at: str = "at"
) -> pl.LazyFrame:
    """`entities` with every view's features as they were known at each row's `at`.

    Rows come back sorted by `at`, none added and none lost; a feature that was unknown
    or had outlived its lifetime is null.
    Raises: Refused if a feature's name is taken, a key is missing or a type differs.
    """
    joined = entities.sort(at, maintain_order=True)
    for view in views:
        schema = joined.collect_schema()
        if taken := sorted(set(view.features) & set(schema)):
            raise Refused(f"feature view {view.name} would overwrite {', '.join(taken)}")
        if missing := sorted({*view.keys, at} - set(schema)):
            raise Refused(f"feature view {view.name} needs {', '.join(missing)} in the entities")
        joined = _join(joined, view, frames, at=at)
    return joined


def _join(entities: pl.LazyFrame, view: FeatureView, frames: Frames, *, at: str) -> pl.LazyFrame:
    table, keys = view.table(frames), list(view.keys)
    if view.event_time is None:
        return entities.join(table, on=keys, how="left", maintain_order="left")
    known_at = f"__{view.name}_known_at"
    return entities.join_asof(
        table.rename({view.event_time: known_at}),
        left_on=at,
        right_on=known_at,
        by=keys,
        strategy="backward",
        tolerance=view.lifetime,
        allow_exact_matches=not view.strictly_before,
        check_sortedness=False,  # both sides were sorted above; polars cannot see it within groups
    ).drop(known_at)


def _require_columns(view: FeatureView, schema: pl.Schema) -> None:
    needed = {*view.keys, *view.features, *([view.event_time] if view.event_time else [])}
    if missing := sorted(needed - set(schema)):
        raise Refused(f"feature view {view.name} did not build {', '.join(missing)}")
    for name, dtype in view.features.items():
        if schema[name] != dtype:
            raise Refused(f"feature view {view.name} built {name} as {schema[name]}, not {dtype}")
    if view.event_time and schema[view.event_time] != pl.Datetime("us", "UTC"):
        raise Refused(
            f"feature view {view.name} has event times of type {schema[view.event_time]}",
            remedy="event times are Datetime('us', 'UTC')",
        )


@dataclass(frozen=True)
class _Known:
    """The newest values of one view: key -> (event time, values)."""

    view: FeatureView
    rows: Mapping[tuple[Value, ...], tuple[datetime | None, tuple[Value, ...]]]

    def values(self, entity: Mapping[str, Value], at: datetime) -> tuple[Value, ...]:
        nothing = (None,) * len(self.view.features)
        event_time, values = self.rows.get(
            tuple(entity[key] for key in self.view.keys), (None, nothing)
        )
        lifetime = self.view.lifetime
        if event_time and lifetime is not None and at - event_time > lifetime:
            return nothing
        return values


class OnlineStore:
    """What every view knew at one moment, held in memory and answered key by key.

    At the moment of the snapshot its answers are those of `get_historical_features`.
    Later it answers with what it knew then, as long as that is within its lifetime.
    """

    def __init__(self, known: Sequence[_Known], at: datetime) -> None:
        self._known = tuple(known)
        self.at = at

    @classmethod
    def snapshot(
        cls, views: Sequence[FeatureView], frames: Frames, *, at: datetime
    ) -> "OnlineStore":
        """Read the newest values known at `at` (with a time zone) out of the datasets."""
        return cls([_Known(view, _newest(view, frames, at)) for view in views], at)

    def lookup(self, entity: Mapping[str, Value], *, at: datetime) -> dict[str, Value]:
        """Every view's features for one entity; null where unknown or outlived.

        Raises: Refused if `at` is before the snapshot, which would look into the future,
        or the entity lacks a key.
        """
        if at < self.at:
            raise Refused(f"the snapshot of {self.at:%Y-%m-%d %H:%M:%S} cannot answer for {at}")
        features: dict[str, Value] = {}
        for known in self._known:
            try:
                values = known.values(entity, at)
            except KeyError as key:
                raise Refused(f"feature view {known.view.name} needs the key {key}") from key
            features.update(zip(known.view.features, values, strict=True))
        return features


def _newest(
    view: FeatureView, frames: Frames, at: datetime
) -> dict[tuple[Value, ...], tuple[datetime | None, tuple[Value, ...]]]:
    rows = view.table(frames)
    if time := view.event_time:
        seen = pl.col(time) < at if view.strictly_before else pl.col(time) <= at
        rows = rows.filter(seen)
        if view.lifetime is not None:
            rows = rows.filter(pl.col(time) >= at - view.lifetime)
    newest = rows.unique(list(view.keys), keep="last", maintain_order=True).collect()
    width = len(view.keys)
    return {
        row[:width]: (row[width], row[width + 1 :]) if view.event_time else (None, row[width:])
        for row in newest.iter_rows()
    }
