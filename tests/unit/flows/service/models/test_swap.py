"""The loop that follows the environment's index, round by round, against a lake."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.service.models.admit import Admission
from flows.service.models.offer import Source
from flows.service.models.refusals import RefusalOutbox
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.models.swap import IndexFollower
from storage.lake import Lake
from storage.lake.client import Access
from tests.served_house import ENVIRONMENT, House, flip_last_byte, house, strip_one_signature
from tests.tiny_model import ROW

__all__ = ["house"]


@dataclass
class Followed:
    """A follower, what it changes, and what it prepared."""

    follower: IndexFollower
    serving: ServingState
    prepared: list[LoadedIndex] = field(default_factory=list)

    def round(self) -> ServingState:
        self.follower.run_round()
        return self.serving

    def score(self) -> list[float]:
        loaded = self.serving.loaded
        assert loaded is not None
        return loaded.champion.score([ROW], inline=True)


def follow(
    house: House,
    *,
    lake: Lake | None = None,
    prepare: Callable[[LoadedIndex], None] = lambda _: None,
) -> Followed:
    serving, prepared = ServingState(), list[LoadedIndex]()

    def note(loaded: LoadedIndex) -> None:
        prepared.append(loaded)
        prepare(loaded)

    source = Source(lake or house.lake, house.name, ENVIRONMENT)
    folder = house.folder / "serve"
    admission = Admission(environment=ENVIRONMENT, keys=house.keys, folder=folder, key="trip")
    outbox = RefusalOutbox(
        house.lake, pipeline=house.name, environment=ENVIRONMENT, folder=folder / "refusals"
    )
    follower = IndexFollower(source, admission, serving, outbox, prepare=note)
    return Followed(follower, serving, prepared)


def test_before_the_first_index_it_waits_and_says_for_what(house: House) -> None:
    state = follow(house).round()
    assert (state.loaded, state.waiting) == (None, "the environment has no index yet")
    assert state.checked is not None
    assert (state.refusal, state.lake_problem) == (None, "")


def test_a_new_index_is_prepared_before_it_serves_and_then_swapped_in(house: House) -> None:
    followed = follow(house)
    for score in (0.25, 0.5):
        house.index(house.register(score))
        followed.round()
        assert followed.score() == [score]
    assert [loaded.index for loaded in followed.prepared] == [1, 2]
    assert followed.prepared[-1] is followed.serving.loaded
    assert (followed.serving.swaps, followed.serving.waiting) == (2, "")


def test_a_round_without_news_loads_nothing_again(house: House) -> None:
    followed = follow(house)
    house.index(house.register(0.25))
    loaded = followed.round().loaded
    house.register(0.5)  # the head moves, the index does not
    assert followed.round().loaded is loaded
    assert len(followed.prepared) == 1


def test_what_is_refused_changes_only_the_state_and_is_counted_once(house: House) -> None:
    good = house.register(0.25)
    bad = house.register(
        0.5, tamper=lambda release: flip_last_byte(release / "payload" / "model.onnx.sealed")
    )
    followed = follow(house)
    house.index(good)
    followed.round()
    house.index(bad)
    for _ in range(3):
        state = followed.round()
        house.register(0.75)
    assert followed.score() == [0.25]
    assert state.refusal is not None
    assert (state.refusal.release, state.refusal.index) == (f"{house.name}/{bad}", 2)
    assert state.refusal.step.startswith("release, step ")
    assert (state.refusals, state.swaps) == (1, 1)
    house.index(good)
    state = followed.round()
    assert (state.refusal, state.refusals) == (None, 1)


def test_a_local_policy_that_was_changed_is_judged_without_a_new_index(house: House) -> None:
    followed = follow(house)
    house.index(house.register(0.25))
    followed.round()
    strip_one_signature(house.keys / "trust.dsse.json")
    state = followed.round()
    assert state.refusal is not None
    assert (state.refusal.step, followed.score()) == ("policy", [0.25])


def test_a_lake_that_does_not_answer_is_a_problem_and_no_refusal(house: House) -> None:
    house.index(house.register(0.25))
    nowhere = Lake(Access("http://127.0.0.1:9", "key", "secret"))
    state = follow(house, lake=nowhere).round()
    assert "No answer from lakeFS" in state.lake_problem
    assert (state.refusal, state.refusals, state.checked) == (None, 0, None)


def test_what_cannot_be_prepared_does_not_serve(house: House) -> None:
    def fail(_: LoadedIndex) -> None:
        raise OSError("no space left on device")

    house.index(house.register(0.25))
    state = follow(house, prepare=fail).round()
    assert state.loaded is None
    assert state.refusal is not None
    assert state.refusal.reason == "no space left on device"


def test_the_loop_restores_what_should_serve_and_stops(house: House) -> None:
    house.index(house.register(0.25))
    ready = threading.Event()
    followed = follow(house, prepare=lambda _: ready.set())
    followed.follower.start()
    assert ready.wait(60)
    followed.follower.stop()
