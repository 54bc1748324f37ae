import pytest

from flows.release import timestamp_flow
from storage.registry import ReleaseRef
from tests.release_site import Site


def test_it_says_what_it_signed_and_what_was_fresh(
    site: Site, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.promote(ref)
    asked = []

    def open_run(pipeline: str | None) -> object:
        asked.append(pipeline)
        return site.context()

    # In a deployment this comes from the environment and the flow run; here it is this lake.
    monkeypatch.setattr(timestamp_flow, "open_run", open_run)
    said = [timestamp_flow.timestamp.fn("m:p", "production").message for _ in range(2)]
    assert said[0] == "production: timestamp signed, audit log checkpointed"
    # The checkpoint came after the timestamp's own entry.
    assert said[1] == "production: timestamp still fresh, audit log unchanged"
    assert asked == ["m:p", "m:p"]


def test_without_an_environment_it_is_the_settings_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = site.context()
    monkeypatch.setattr(timestamp_flow, "open_run", lambda _: context)
    message = timestamp_flow.timestamp.fn().message
    assert message is not None
    assert message.startswith(f"{context.settings.environment}: timestamp still fresh")
