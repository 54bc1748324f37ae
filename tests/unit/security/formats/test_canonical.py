import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.errors import Untrusted
from security.formats import canonical

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
documents = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner)
    ),
    max_size=5,
)


@settings(deadline=None)
@given(documents)
def test_what_is_encoded_reads_back_and_has_one_form(document: dict[str, object]) -> None:
    data = canonical.encode(document)
    assert canonical.parse_canonical(data) == document
    assert canonical.encode(canonical.parse(data)) == data


@settings(deadline=None)
@given(documents)
def test_the_bytes_are_those_that_were_signed_before_rfc8785_wrote_them(
    document: dict[str, object],
) -> None:
    def ordered(value: object) -> object:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return {key: ordered(value[key]) for key in keys}
        return [ordered(item) for item in value] if isinstance(value, list) else value

    before = json.dumps(ordered(document), ensure_ascii=False, separators=(",", ":"))
    assert canonical.encode(document) == before.encode("utf-8")


def test_keys_are_sorted_by_utf16_units_as_rfc_8785_shows() -> None:
    # The example of RFC 8785, section 3.2.3.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    data = canonical.encode(dict.fromkeys(keys, 0))
    assert list(json.loads(data)) == ordered


def test_strings_are_escaped_as_rfc_8785_shows() -> None:
    # From the string of RFC 8785, section 3.2.2.
    assert canonical.encode({"s": '\u20ac$\u000f\nA\'B"\\\\"/'}) == (
        b'{"s":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1.5}',
        b'{"a":1.0}',
        b'{"a":1e400}',
        b'{"a":1e3}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 1_000_000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 20_000,
        b'{"a":"\\ud800"}x',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b"[1]",
        b"1",
        b"",
        b'{"a":1}{"a":1}',
        b'{"a":"' + b"x" * canonical.MAX_BYTES + b'"}',
    ],
    ids=lambda data: data[:24].decode("latin1"),
)
def test_an_ambiguous_or_hostile_document_is_untrusted(data: bytes) -> None:
    with pytest.raises(Untrusted):
        canonical.parse(data)


@pytest.mark.parametrize(
    "data", [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":-0}', b'{"a":"\\u0041"}', b'{"a":1}\n']
)
def test_a_signed_document_in_any_other_form_is_untrusted(data: bytes) -> None:
    assert canonical.parse(data)
    with pytest.raises(Untrusted):
        canonical.parse_canonical(data)


def test_brackets_inside_strings_are_not_nesting() -> None:
    text = '[{"\\' * 5000
    assert canonical.parse(canonical.encode({"a": text})) == {"a": text}


def test_half_a_surrogate_pair_cannot_be_signed() -> None:
    with pytest.raises(Untrusted):
        canonical.parse_canonical(b'{"a":"\\ud800"}')


@pytest.mark.parametrize(
    "value", [1.0, 1.5, float("nan"), 2**53, b"x", {1: 2}, {"a": object()}, "\ud800", {"\udc00": 1}]
)
def test_what_cannot_stand_in_a_signed_document_is_refused(value: object) -> None:
    with pytest.raises(Untrusted):
        canonical.encode({"v": value})


def test_a_cycle_is_refused_and_does_not_crash() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(Untrusted):
        canonical.encode(cycle)


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\uDFFFx"', '"\\udc00\\ud800"'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(text: str) -> None:
    """Found by fuzzing: an audit proof with one raised a UnicodeEncodeError."""
    for document in (f'{{"a":{text}}}', f"{{{text}:1}}", f'{{"a":[{{"b":{text}}}]}}'):
        with pytest.raises(Untrusted, match="half of a surrogate pair"):
            canonical.parse(document.encode())
    assert canonical.parse(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}
