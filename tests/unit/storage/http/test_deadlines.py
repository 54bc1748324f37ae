"""Which clients are closed, and which are not, under the limits of a server for large bodies and
under those of one for small messages."""

import resource
from dataclasses import replace

import pytest
from uvicorn.server import ServerState

from storage.http.deadlines import ConnectionLimits, DeadlineProtocol, allow_descriptors

HEADERS_S, PAUSE_S, MESSAGE_S = 20, 60, 10
LARGE = ConnectionLimits(2, headers_s=HEADERS_S, pause_s=PAUSE_S, body_bytes_per_s=256)
SMALL = ConnectionLimits(2, headers_s=MESSAGE_S, pause_s=MESSAGE_S, message_s=MESSAGE_S)
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def large(connect):
    return connect(DeadlineProtocol.with_limits(LARGE))


@pytest.fixture
def small(connect):
    return connect(DeadlineProtocol.with_limits(SMALL))


def test_headers_that_never_end_are_overdue(large):
    large.receive(PUT[:10])
    large.receive(PUT[10:20], after_s=HEADERS_S - 1)
    assert not large.is_overdue(after_s=0)
    assert large.is_overdue(after_s=2)


def test_a_client_that_never_says_anything_is_overdue(large):
    assert not large.is_overdue(after_s=HEADERS_S)
    assert large.is_overdue(after_s=HEADERS_S + 1)


def test_a_body_that_pauses_is_overdue_and_one_that_moves_is_not(large):
    large.receive(PUT)
    for _ in range(100):
        large.protocol.flow.resume_reading()
        large.receive(b"x" * (32 << 10), after_s=PAUSE_S / 2)
        large.protocol.flow.resume_reading()
        assert not large.is_overdue(after_s=0)
    assert large.is_overdue(after_s=PAUSE_S + 1)


def test_a_body_that_drips_is_overdue(large):
    large.receive(PUT)
    for _ in range(12):
        large.receive(b"x", after_s=10)
    assert large.is_overdue(after_s=0)


def test_a_body_that_the_server_holds_back_is_not_overdue(large):
    large.receive(PUT)
    large.receive(b"x" * (1 << 20))
    assert large.protocol.flow.read_paused
    assert not large.is_overdue(after_s=PAUSE_S * 10)


def test_a_body_that_waits_for_leave_to_be_sent_is_not_overdue(large):
    large.receive(PUT[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert not large.is_overdue(after_s=PAUSE_S * 10)


def test_a_small_message_has_one_clock_from_its_first_byte_to_its_last(small):
    small.receive(PUT)
    for _ in range(4):
        small.receive(b"x" * (32 << 10), after_s=MESSAGE_S / 4)
        assert not small.is_overdue(after_s=0)
    assert small.is_overdue(after_s=1)


@pytest.mark.parametrize("limits", [LARGE, SMALL])
def test_an_answer_that_is_not_read_is_overdue(connect, limits):
    one = connect(DeadlineProtocol.with_limits(limits))
    one.receive(GET)
    one.protocol.pause_writing()
    assert not one.is_overdue(after_s=limits.pause_s - 1)
    assert one.is_overdue(after_s=limits.pause_s + 1)
    one.protocol.resume_writing()
    assert not one.is_overdue(after_s=limits.pause_s + 1)


@pytest.mark.parametrize("limits", [LARGE, SMALL])
def test_a_request_that_is_answered_for_long_is_not_overdue(connect, limits):
    one = connect(DeadlineProtocol.with_limits(limits))
    one.receive(GET)
    assert not one.is_overdue(after_s=3600)


async def answer(one):
    await one.protocol.cycle.send({"type": "http.response.start", "status": 200, "headers": []})
    await one.protocol.cycle.send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("limits", [LARGE, SMALL])
async def test_a_message_begun_before_the_answer_has_its_clock_from_the_answer_on(connect, limits):
    one = connect(DeadlineProtocol.with_limits(limits))
    one.receive(GET + GET[:10])
    one.loop.now = 1000
    await answer(one)
    assert not one.is_overdue(after_s=limits.headers_s)
    assert one.is_overdue(after_s=limits.headers_s + 1)


async def test_a_request_answered_after_another_on_its_connection_is_not_overdue(small):
    small.receive(GET + GET + GET[:10])
    await answer(small)
    assert not small.is_overdue(after_s=3600), "the second is being answered, the third waits"


async def test_an_idle_connection_is_left_to_keep_alive(large):
    large.receive(GET)
    await answer(large)
    assert not large.is_overdue(after_s=3600)


def test_a_client_too_many_is_turned_away(connect):
    state, protocol = ServerState(), DeadlineProtocol.with_limits(LARGE)
    aborted = [connect(protocol, state).transport.is_aborted for _ in range(3)]
    assert aborted == [False, False, True]


def test_a_request_knows_when_it_arrived(large):
    large.receive(GET, after_s=7)
    assert large.protocol.scope["state"]["arrived"] == 7


def test_bytes_that_are_no_http_are_answered_400_and_the_connection_closed(large):
    large.receive(b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert large.transport.written.startswith(b"HTTP/1.1 400 ")
    assert large.transport.is_closed


async def test_bytes_that_are_no_http_behind_an_answer_under_way_only_close(large):
    large.receive(PUT.replace(b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"))
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    await large.protocol.cycle.send(start)
    await large.protocol.cycle.send({"type": "http.response.body", "body": b"x", "more_body": True})
    written = bytes(large.transport.written)
    large.receive(b"no chunk\r\n")
    assert (bytes(large.transport.written), large.transport.is_closed) == (written, True)


def test_the_limit_of_open_files_is_raised_and_never_lowered():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        allow_descriptors(replace(LARGE, connections=200, descriptors=3))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 856
        allow_descriptors(LARGE)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 856
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
