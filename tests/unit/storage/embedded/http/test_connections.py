"""A client that does not take the file it asked for."""

import pytest

from storage.embedded.http.connections import LIMITS, LakeProtocol

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def lake(connect):
    return connect(LakeProtocol)


def test_a_file_that_is_not_taken_is_overdue(lake):
    lake.receive(GET)
    lake.protocol.note_progress(moved=False)
    lake.loop.now = LIMITS.pause_s - 1
    lake.protocol.note_progress(moved=False)
    assert lake.is_overdue(after_s=2)
    lake.protocol.note_progress(moved=True)
    assert not lake.is_overdue(after_s=2)
