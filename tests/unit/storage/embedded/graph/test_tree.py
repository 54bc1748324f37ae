"""Trees, diffs and merges against plain dictionaries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.embedded.errors import MergeConflict
from storage.embedded.graph import ranges
from storage.embedded.graph.diff import Kind, compare, diff, plan_merge
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.graph.tree import (
    Cache,
    Caches,
    Nodes,
    edit_tree,
    find_key_behind,
    get,
    is_same_tree,
    scan,
)
from storage.errors import Damaged

KEYS = st.one_of(
    st.integers(0, 400).map(lambda number: f"k{number:03}"),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3),
)
VALUES = st.integers(0, 3)
MODELS = st.dictionaries(KEYS, VALUES, max_size=120)
EDITS = st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=40)


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch):
    monkeypatch.setattr(ranges, "RANGE_KEYS", 4)
    monkeypatch.setattr(ranges, "GROUP_RANGES", 4)


def value(number: int, modified_s: int = 0) -> ObjectEntry:
    return make_entry(
        digest=f"{number:064x}",
        etag=f"{number:032x}",
        size=number,
        content_type="t",
        modified_s=modified_s,
        metadata={"k": str(number)},
    )


def missing(node: str) -> bytes:
    raise AssertionError(f"{node} was never made")


def nodes(load=missing) -> Nodes:
    """No cache holds anything, so that every read decodes what was encoded."""
    return Nodes(load, Caches(Cache(0), Cache(0), Cache(0)))


def tree_of(model, on):
    return edit_tree(on, "", sorted((key, value(number)) for key, number in model.items()))


def sorted_edits(edits):
    return sorted((key, None if number is None else value(number)) for key, number in edits.items())


def applied(model, edits):
    merged = {**model, **edits}
    return {key: number for key, number in merged.items() if number is not None}


def read(on, tree, start=""):
    return {key: found.size for key, found in scan(on, tree, start)}


@given(MODELS, EDITS)
def test_edits_give_what_a_dictionary_gives_and_the_tree_of_its_content(model, edits):
    on = nodes()
    tree = edit_tree(on, tree_of(model, on), sorted_edits(edits))
    expected = applied(model, edits)
    assert read(on, tree) == expected
    assert tree == tree_of(expected, on)
    assert list(read(on, tree)) == sorted(expected, key=str.encode)


@given(MODELS, KEYS)
def test_lookups_and_scans_find_what_a_dictionary_holds(model, key):
    on = nodes()
    tree = tree_of(model, on)
    found = get(on, tree, key)
    assert (None if found is None else found.size) == model.get(key)
    assert read(on, tree, key) == {k: v for k, v in model.items() if k >= key}


def dict_diff(left, right):
    return {
        key: (left.get(key), right.get(key))
        for key in {*left, *right}
        if left.get(key) != right.get(key)
    }


@given(MODELS, EDITS, st.one_of(st.just(""), KEYS))
def test_a_diff_is_that_of_the_dictionaries(model, edits, start):
    on = nodes()
    other = applied(model, edits)
    found = list(diff(on, tree_of(model, on), tree_of(other, on), start))
    expected = {k: v for k, v in dict_diff(model, other).items() if k >= start}
    sizes = {
        item.key: (item.before and item.before.size, item.after and item.after.size)
        for item in found
    }
    assert sizes == expected
    assert [item.key for item in found] == sorted(expected)


@settings(max_examples=200)
@given(MODELS, EDITS, EDITS, st.sampled_from([None, "source-wins", "dest-wins"]))
def test_a_merge_takes_each_sides_changes_and_only_double_changes_conflict(
    base, ours, theirs, strategy
):
    on = nodes()
    target, source = applied(base, ours), applied(base, theirs)
    ours_changed, theirs_changed = dict_diff(base, target), dict_diff(base, source)
    conflicts = {
        key
        for key in ours_changed.keys() & theirs_changed.keys()
        if target.get(key) != source.get(key)
    }
    trees = [tree_of(model, on) for model in (base, source, target)]
    found = {item.key for item in compare(on, *trees) if item.kind is Kind.CONFLICT}
    assert found == conflicts
    if conflicts and strategy is None:
        with pytest.raises(MergeConflict):
            plan_merge(on, *trees, strategy)
        return
    taken = set(theirs_changed) - (set() if strategy == "source-wins" else conflicts)
    expected = applied(target, {key: source.get(key) for key in taken})
    merged = edit_tree(on, trees[2], plan_merge(on, *trees, strategy))
    assert read(on, merged) == expected


def test_an_edit_makes_only_the_nodes_above_what_it_touches():
    store: dict[str, bytes] = {}
    on = nodes()
    tree = tree_of({f"k{number:05}": 1 for number in range(4000)}, on)
    store |= on.made
    later = nodes(store.__getitem__)
    edit_tree(later, tree, [("k02000", value(2))])
    assert len(on.made) > 500
    assert len(later.made) == 3  # one range, its group, the root


def test_a_diff_opens_only_the_groups_that_differ():
    on = nodes()
    tree = tree_of({f"k{number:05}": 1 for number in range(4000)}, on)
    changed = edit_tree(on, tree, [("k02000", value(2))])
    opened: list[str] = []

    def load(node):
        opened.append(node)
        return on.made[node]

    assert [found.key for found in diff(nodes(load), tree, changed)] == ["k02000"]
    assert len(set(opened)) == 6  # each tree's root, group and range


def flat(on, model):
    """A tree as it was stored before there were groups: one index of all ranges."""
    items = sorted((key, value(number)) for key, number in model.items())
    return on.keep_index(ranges.make_index([on.keep_range(r) for r in ranges.cut(items)])).id


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=120), EDITS)
def test_a_tree_from_before_groups_reads_edits_and_compares_as_one_of_today(model, edits):
    on = nodes()
    old, other = flat(on, model), applied(model, edits)
    assert read(on, old) == model
    assert is_same_tree(on, old, tree_of(model, on))
    assert list(diff(on, old, tree_of(model, on))) == []
    assert {found.key for found in diff(on, old, tree_of(other, on))} == {*dict_diff(model, other)}
    edited = edit_tree(on, old, sorted_edits(edits))
    assert read(on, edited) == other
    assert is_same_tree(on, old, edited) == (other == model)


@given(MODELS, EDITS, EDITS)
def test_a_tree_of_coarser_ranges_reads_edits_and_compares_as_one_of_today(model, edits, more):
    on = nodes()
    ranges.RANGE_KEYS, today = 16, ranges.RANGE_KEYS
    try:
        old = tree_of(model, on)
    finally:
        ranges.RANGE_KEYS = today
    once = applied(model, edits)
    edited = edit_tree(on, old, sorted_edits(edits))
    assert read(on, edited) == once
    assert {found.key for found in diff(on, old, edited)} == {*dict_diff(model, once)}
    assert {found.key for found in diff(on, edited, tree_of(once, on))} == set()
    assert read(on, edit_tree(on, edited, sorted_edits(more))) == applied(once, more)


def test_the_same_identity_at_another_time_is_no_change():
    on = nodes()
    tree = edit_tree(on, "", [("key", value(1, modified_s=5))])
    assert edit_tree(on, tree, [("key", value(1, modified_s=9))]) == tree


def test_a_node_that_is_not_what_its_name_says_is_damaged():
    on = nodes()
    tree = tree_of({f"k{number}": 1 for number in range(50)}, on)
    other = tree_of({f"k{number}": 2 for number in range(50)}, on)
    swapped = {**on.made, tree: on.made[other]}
    with pytest.raises(Damaged):
        nodes(swapped.__getitem__).root(tree)
    cut_short = {**on.made, tree: on.made[tree][:-3]}
    with pytest.raises(Damaged):
        nodes(cut_short.__getitem__).root(tree)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), KEYS)
def test_past_prefix_separates_keys_with_the_prefix_from_those_behind(prefix, key):
    bound = find_key_behind(prefix)
    if key.startswith(prefix):
        assert bound is None or key < bound
    elif key > prefix:
        assert bound is not None
        assert key >= bound
