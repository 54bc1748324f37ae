"""The layout of the releases repository: as lakes of before have it, and as it reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import NotFound, Refused
from storage.registry import layout
from storage.registry.layout import ReleaseRef

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
numbers = st.integers(min_value=1, max_value=10**18 - 1)
REF = ReleaseRef("flights", 3)


def test_paths_of_lakes_of_before() -> None:
    assert REF.path == "models/flights/3"
    assert layout.candidate_folder("c1") == "candidates/c1"
    assert layout.index_path("production", 7) == "environments/production/index/7.json"
    assert layout.timestamp_path("production", 7) == (
        "environments/production/index/7.timestamp.json"
    )
    assert layout.proposal_path("production", 2) == "environments/production/proposals/2.json"
    assert layout.policy_path("trust.dsse.json") == "policy/trust.dsse.json"
    assert layout.audit_segment(3) == "audit/entries/00000003.jsonl"


def test_subjects_of_logs_of_before() -> None:
    assert layout.index_subject("production", 7) == "environments/production/index/7"
    assert layout.timestamp_subject("production", 7) == "environments/production/index/7.timestamp"
    assert layout.proposal_subject("production", 2) == "environments/production/proposals/2"


@pytest.mark.parametrize(
    ("run", "digest"),
    [
        (layout.gate_run("c"), "695e78148add07c2"),
        (layout.register_run("c"), "1d8d269a51e51368"),
        (layout.reseal_run(REF, "k"), "201d88beb3f5092d"),
        (layout.add_recipient_run(REF, "k", "d"), "ea32fbbfd0252b57"),
        (layout.index_run("production", "q"), "819682fc81442c58"),
        (layout.propose_run("production", "q", 2), "3bc72d577a975df4"),
        (layout.approve_run("production", 2, "k", 1), "2af0d08591a7c7de"),
        (layout.timestamp_run("production", "i", "s", "2026-01-01T00"), "1fb9a9852dab328f"),
        (layout.policy_run("t", "r"), "72061c0f4f7df7c0"),
        (layout.checkpoint_run(3, "r"), "06db27125f7bf16c"),
        (layout.audit_run("e"), "5e8ebfc5e2d3edbe"),
    ],
)
def test_run_ids_of_lakes_of_before(run: str, digest: str) -> None:
    # Another id would let the same work happen a second time in a lake that has it already.
    assert run.startswith(digest)
    assert len(run) == 64


@given(names, numbers)
def test_a_release_reads_back(model: str, version: int) -> None:
    ref = ReleaseRef(model, version)
    assert ReleaseRef.parse(str(ref)) == ref
    assert ReleaseRef.parse(ref.path.removeprefix(layout.MODELS)) == ref


@given(names, st.sets(numbers))
def test_numbers_of_indexes_read_back_and_timestamps_have_none(
    environment: str, there: set[int]
) -> None:
    folder = layout.index_folder(environment)
    paths = [layout.index_path(environment, n) for n in there]
    stamps = [layout.timestamp_path(environment, n) for n in there]
    assert layout.parse_numbers(folder, [*paths, *stamps]) == sorted(there)


@given(names, st.sets(numbers))
def test_numbers_of_proposals_read_back_from_their_own_folder(
    environment: str, there: set[int]
) -> None:
    folder = layout.proposal_folder(environment)
    paths = [layout.proposal_path(environment, n) for n in there]
    others = [layout.index_path(environment, n) for n in there]
    assert layout.parse_numbers(folder, [*paths, *others]) == sorted(there)


def test_what_else_lies_in_the_folder_has_no_number() -> None:
    folder = layout.index_folder("production")
    odd = ("0.json", "01.json", "-1.json", "1.jsonl", "x.json", "1/1.json", "٣.json", "9" * 30)
    assert layout.parse_numbers(folder, [f"{folder}{name}" for name in odd]) == []


ODD = ["", ".", "..", "../x", "a/b", "a b", "a\n", "-a", ".a", "ä", "a" * 129]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_refused(name: str) -> None:
    for spell in (
        layout.model_folder,
        layout.candidate_folder,
        layout.index_folder,
        layout.proposal_folder,
        layout.policy_path,
    ):
        with pytest.raises(Refused) as caught:
            spell(name)
        assert caught.value.code == "lake.name_refused"


@given(st.text())
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    try:
        path = layout.candidate_folder(name)
    except Refused:
        return
    assert path == f"candidates/{name}"
    assert "/" not in name
    assert name not in ("", ".", "..")


@pytest.mark.parametrize(
    "text", ["flights", "flights/", "/3", "flights/0", "flights/-1", "flights/03", "a/b/3", "f/x"]
)
def test_what_names_no_release_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="does not name a release"):
        ReleaseRef.parse(text)
