"""Whatever stands where a signature should be: it is right, or it is refused with a code."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from storage.embedded.keys.access_keys import Key, make_admin_key
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.sigv4 import SignedRequest, is_signed, verify

KEY = make_admin_key("AKIAX", "secret")
NAMES = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
]
LIKELY = [
    "AWS4-HMAC-SHA256",
    "AKIAX/20260101/us-east-1/s3/aws4_request",
    "20260101T000000Z",
    "60",
    "host;x-amz-date",
    "host;\N{DUCK}",
    "0" * 64,
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(LIKELY)
LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
AUTHORIZATION = LATIN | st.builds(
    "AWS4-HMAC-SHA256 Credential={}/{}/r/s3/aws4_request, SignedHeaders={}, Signature={}".format,
    st.sampled_from(["AKIAX", "", "other"]) | LATIN,
    st.sampled_from(["20260101", "99999999"]) | LATIN,
    st.sampled_from(["host", "host;a", ";;"]) | LATIN,
    st.just("0" * 64) | LATIN,
)


def find(key_id: str) -> Key | None:
    return KEY if key_id == KEY.id else None


def request(query: list[tuple[str, str]], **headers: str) -> SignedRequest:
    pairs = [(name.encode(), value.encode()) for name, value in query]
    raw = [
        (name.replace("_", "-").encode(), text.encode("latin-1")) for name, text in headers.items()
    ]
    return SignedRequest("GET", b"/r/main/k", pairs, Headers(raw=[(b"host", b"h"), *raw]))


@given(st.lists(st.tuples(st.sampled_from(NAMES) | TEXT, TEXT), max_size=9), LATIN)
def test_no_query_gets_in_or_breaks_the_check(query, date):
    with pytest.raises(S3Refused):
        verify(request(query, x_amz_date=date), find)


@given(AUTHORIZATION, st.sampled_from(LIKELY[2:3]) | LATIN)
def test_no_header_gets_in_or_breaks_the_check(authorization, date):
    with pytest.raises(S3Refused):
        verify(request([], authorization=authorization, x_amz_date=date), find)


@pytest.mark.parametrize(
    ("query", "authorization", "signed"),
    [
        (b"X-Amz-Credential=a", "", True),
        (b"a=b&X-Amz-Credential=a", "", True),
        (b"X-Amz-Credential=", "", False),
        (b"path=X-Amz-Credential%3Da", "", False),
        (b"path=X-Amz-Credential=a", "", False),
        (b"", "AWS4-HMAC-SHA256 x", True),
        (b"", "AWS key:signature", True),
        (b"", "Basic x", False),
    ],
)
def test_only_a_signature_makes_a_request_s3(query, authorization, signed):
    headers: Any = Headers({"authorization": authorization} if authorization else {})
    assert is_signed(headers, query) is signed
