"""What the ledger leaves open, derived step by step, against one look at everything."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.ledger import DECISIONS, path_of, read_states
from storage.lake import Lake
from storage.runs import Job, Run, commit_once, records
from storage.runs.compaction import compact

START = datetime(2013, 6, 1, tzinfo=UTC)
STEPS = st.one_of(
    st.tuples(st.just("decide"), st.sampled_from(["retrain", "none", "empty", "feed"])),
    st.tuples(st.just("grade"), st.sampled_from(["ungraded", "true-alarm"])),
    st.tuples(st.just("train"), st.integers(0, 5)),
    st.tuples(st.just("compact"), st.none()),
)


class Loop:
    """Decisions, grades and trainings as the stages commit them, without a model."""

    def __init__(self, lake: Lake, repo: str) -> None:
        self.lake, self.repo = lake, repo
        self.made: list[str] = []

    def commit(self, stage: str, files: dict[str, Any], **details: Any) -> None:
        def body(run: Run) -> None:
            for path, value in files.items():
                run.replace(path, json.dumps(value).encode())
            run.details.update(details)

        run_id = records.run_id(stage, uuid.uuid4().hex)
        commit_once(self.lake, Job(self.repo, stage, run_id), body)

    def decide(self, kind: str) -> None:
        number = len(self.made)
        name = f"{number:064x}"
        said = {
            "id": name,
            "release": f"flights/{number // 3}",
            "window_end": (START + timedelta(days=number)).isoformat().replace("+00:00", "Z"),
            "action": "retrain" if kind == "retrain" else "none",
            "alarm": kind != "none",
            "level": 1 if kind == "feed" else 2,
        }
        evidence = {"window": {"rows": 0 if kind == "empty" else 10}}
        entry = {"decision": said, "evidence": evidence}
        self.commit("monitor", {path_of(name): entry}, decision=name, action=said["action"])
        self.made.append(name)

    def grade(self, verdict: str) -> None:
        """What a monitor's run does with every decision that is due."""
        due = self.find_due()
        grades = {
            f"ledger/{one}.grade.json": {"decision_id": one, "verdict": verdict} for one in due
        }
        self.commit("monitor", grades, decision="")

    def find_due(self) -> tuple[str, ...]:
        states = read_states(self.lake, self.lake.pin(self.repo))
        return tuple(state.id for state in states if state.gradable)

    def find_asking(self) -> list[str]:
        states = read_states(self.lake, self.lake.pin(self.repo))
        return [state.id for state in states if state.asks]

    def train(self, number: int) -> None:
        if number < len(self.made):
            self.commit("train", {}, decision=self.made[number])

    def compact(self, _: object) -> None:
        compact(self.lake, self.repo, [DECISIONS], enough=1)

    def check(self) -> None:
        pin = self.lake.pin(self.repo)
        everything = DECISIONS.derive(self.lake, pin, None)
        found = DECISIONS.at(self.lake, pin)
        assert json.loads(json.dumps(found)) == json.loads(json.dumps(everything))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=9))
def test_step_by_step_it_is_what_one_look_finds(lake: Lake, steps: list[tuple[str, Any]]) -> None:
    repo = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(repo)
    loop = Loop(lake, repo)
    for step, value in steps:
        getattr(loop, step)(value)
    loop.check()


def test_a_decision_stays_open_until_it_is_trained_however_old(lake: Lake, repo: str) -> None:
    loop = Loop(lake, repo)
    for kind in ("retrain", "none", "retrain"):
        loop.decide(kind)
    loop.compact(None)
    loop.decide("none")
    loop.compact(None)
    assert loop.find_asking() == [loop.made[0], loop.made[2]]
    loop.train(0)
    assert loop.find_asking() == [loop.made[2]]
    loop.compact(None)
    assert loop.find_asking() == [loop.made[2]]


def test_what_no_label_can_grade_is_graded_once(lake: Lake, repo: str) -> None:
    loop = Loop(lake, repo)
    for kind in ("none", "empty", "feed"):
        loop.decide(kind)
    assert loop.find_due() == tuple(loop.made)
    loop.grade("ungraded")
    assert loop.find_due() == (loop.made[0],)
    loop.compact(None)
    loop.grade("true-alarm")
    assert loop.find_due() == ()
