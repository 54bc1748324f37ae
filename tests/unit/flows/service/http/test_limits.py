"""What a service takes on: nothing is held that was not counted, and all of it is given back."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from flows.errors import ContractBroken
from flows.service.http.limits import CONNECTIONS, Intake, RequestLimits, connection_limits

LIMITS = RequestLimits(body_bytes=100, bodies_bytes=150, batches=2, queue_s=0.25)
SCOPE = {"headers": []}


def sender(*messages: dict[str, Any]) -> Any:
    """What an ASGI server hands over, one message a call."""
    left: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts_is_put_together() -> None:
    receive = sender(part(b"a" * 50), part(b"b" * 49), part(b"c", more=False))
    assert await Intake(LIMITS).read_body(SCOPE, receive) == b"a" * 50 + b"b" * 49 + b"c"


async def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    scope = {"headers": [(b"content-length", b"101")]}
    with pytest.raises(ContractBroken) as refused:
        await Intake(LIMITS).read_body(scope, sender())
    assert refused.value.code == "service.too_large"


async def test_a_body_is_refused_at_the_part_that_is_too_much() -> None:
    left = [part(b"x" * 60), part(b"x" * 60), part(b"x" * 60)]
    receive = sender(*left)
    with pytest.raises(ContractBroken) as refused:
        await Intake(LIMITS).read_body(SCOPE, receive)
    assert refused.value.code == "service.too_large"
    assert (await receive())["body"] == b"x" * 60  # the third was never asked for


async def test_bodies_together_stay_within_their_bound_and_give_it_back() -> None:
    intake = Intake(LIMITS)

    async def second() -> dict[str, Any]:
        with pytest.raises(ContractBroken) as refused:
            await intake.read_body(SCOPE, sender(part(b"y" * 60), part(b"y" * 10, more=False)))
        assert refused.value.code == "service.overloaded"
        return part(b"", more=False)

    messages = iter([part(b"x" * 50), part(b"x" * 45)])

    async def first() -> dict[str, Any]:
        message = next(messages, None)
        return message or await second()

    assert len(await intake.read_body(SCOPE, first)) == 95
    again = sender(part(b"y" * 60), part(b"y" * 30, more=False))
    assert len(await intake.read_body(SCOPE, again)) == 90


async def test_a_client_that_goes_away_gives_its_room_back() -> None:
    intake = Intake(LIMITS)
    for _ in range(5):
        with pytest.raises(ClientDisconnect):
            await intake.read_body(SCOPE, sender(part(b"x" * 90), {"type": "http.disconnect"}))
    assert await intake.read_body(SCOPE, sender(part(b"x" * 90, more=False))) == b"x" * 90


def test_batches_beyond_the_queue_are_refused_until_one_is_done() -> None:
    intake = Intake(LIMITS)
    with intake.batch():
        with intake.batch(), pytest.raises(ContractBroken, match="2 batches") as refused:
            intake.batch().__enter__()
        assert refused.value.code == "service.overloaded"
        with intake.batch():
            pass


def test_a_request_is_shed_only_once_it_waited_longer_than_the_limit() -> None:
    Intake(LIMITS).check_wait(0.25)
    with pytest.raises(ContractBroken) as refused:
        Intake(LIMITS).check_wait(0.26)
    assert refused.value.code == "service.overloaded"


def test_every_part_of_a_message_has_the_requests_deadline() -> None:
    found = connection_limits(replace(LIMITS, request_s=7.0))
    assert (found.headers_s, found.pause_s, found.message_s) == (7.0, 7.0, 7.0)
    assert found.connections == CONNECTIONS
