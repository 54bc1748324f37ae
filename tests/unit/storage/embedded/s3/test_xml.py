"""S3's XML, read from whoever sends it and written for clients that parse it."""

from xml.etree import ElementTree

import pytest

from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.xml import NAMESPACE, format_time, read_records, reply_xml


def test_xml_records_are_read_with_or_without_a_namespace():
    body = b'<Delete xmlns="http://s3/"><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object></Delete>'
    assert read_records(body, "Delete", "Object") == ([{"Key": "a&b"}], {"Quiet": "true"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete>",
        b"<Other/>",
        b'<!DOCTYPE d [<!ENTITY a "x">]><Delete><Object><Key>&a;</Key></Object></Delete>',
    ],
)
def test_xml_that_is_not_the_document_or_declares_entities_is_refused(body):
    with pytest.raises(S3Refused) as caught:
        read_records(body, "Delete", "Object")
    assert caught.value.code == "MalformedXML"


def test_xml_may_claim_any_encoding_and_is_read_as_utf8():
    """Found by fuzzing: an unknown name raised a LookupError, a multi-byte one a ValueError."""
    for claimed in ("TTF-8", "utf-16", "shift_jis", "idna"):
        body = f'<?xml version="1.0" encoding="{claimed}"?><Delete><Quiet>\u00e9</Quiet></Delete>'
        assert read_records(body.encode(), "Delete", "Object") == ([], {"Quiet": "\u00e9"})


def test_a_document_says_what_it_was_given():
    content = [("Key", "a<&>\r\0b"), ("Size", 3), ("IsTruncated", True), ("Owner", [("ID", "x")])]
    answer = reply_xml("Result", content, 201, ETag="e")
    assert (answer.status_code, answer.headers["etag"]) == (201, "e")
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{{{NAMESPACE}}}Result"
    assert [part.text for part in root.iter()][1:] == ["a<&>\r\ufffdb", "3", "true", None, "x"]


def test_errors_have_no_namespace():
    root = ElementTree.fromstring(reply_xml("Error", [("Code", "NoSuchKey")], 404).body)
    assert (root.tag, root.findtext("Code")) == ("Error", "NoSuchKey")


def test_times_are_written_as_s3_writes_them():
    assert format_time(1_372_680_000) == "2013-07-01T12:00:00.000Z"
