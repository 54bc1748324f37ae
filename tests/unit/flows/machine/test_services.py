from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flows.machine.services import LAKE, PREDICTION, PREFECT, WORKER, Service, local_services
from flows.settings import Settings


def named(settings: Settings) -> dict[str, Service]:
    return {service.name: service for service in local_services(settings)}


def test_each_service_comes_after_what_it_needs(settings: Settings) -> None:
    names = [service.name for service in local_services(settings)]
    assert names == [LAKE, PREFECT, WORKER, PREDICTION]
    for service in local_services(settings):
        assert all(names.index(need) < names.index(service.name) for need in service.needs)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("lake_port", {LAKE, PREFECT, WORKER, PREDICTION}),
        ("worker_limit", {WORKER}),
    ],
)
def test_a_setting_changes_the_fingerprint_of_what_would_start_otherwise(
    settings: Settings, field: str, changed: set[str]
) -> None:
    before = named(settings)
    after = named(settings.model_copy(update={field: getattr(settings, field) + 1}))
    assert {n for n in before if before[n].fingerprint != after[n].fingerprint} == changed


def test_a_secret_changes_no_fingerprint(settings: Settings) -> None:
    lake = named(settings)[LAKE]
    assert replace(lake, secrets=lambda: {"x": "y"}).fingerprint == lake.fingerprint


def test_what_does_not_run_is_not_ready(settings: Settings) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert not any(service.ready(now) for service in local_services(settings))


def test_a_worker_has_no_key_and_the_service_only_its_own(settings: Settings) -> None:
    found = named(settings)
    assert found[WORKER].env["HEADRACE_ROLES"] == "none"
    assert found[PREDICTION].env["HEADRACE_ROLES"] == "serving"
    assert "LAKEFS_SECRET_ACCESS_KEY" in found[PREFECT].withheld
