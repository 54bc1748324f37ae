"""The three verbs: everything up, everything down, how is it."""

from collections.abc import Callable, Collection

from flows.errors import Misconfigured
from flows.machine import dead_runs, deployments, first_use
from flows.machine.services import (
    LAKE,
    PREDICTION,
    PREFECT,
    WORKER,
    Service,
    local_services,
)
from flows.machine.supervisor import ServiceStatus, Supervisor
from flows.settings import Settings

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    """Nobody listens."""


def up(
    settings: Settings, only: Collection[str] | None = None, *, tell: Tell = _silent
) -> list[ServiceStatus]:
    """Start what does not run (of `only`, or everything), wait until it is ready, deploy.

    Raises: Misconfigured when a port is taken, a service dies, or a deployment is refused.
    """
    supervisor = Supervisor(settings.home, local_services(settings), tell=tell)
    wanted = _chosen(settings, supervisor.services, only)
    with supervisor.records.lock():
        supervisor.refuse_taken_ports(wanted)
        supervisor.refuse_missing_needs(_needy(settings, wanted))
        first_use.ensure_lake_key(settings)
        first = [service for service in wanted if not service.needs]
        needy = [service for service in wanted if service.needs]
        supervisor.start(first)
        for service in first:
            # Prefect takes longest: what needs only the lake starts meanwhile.
            supervisor.wait_ready([service])
            for one in needy:
                if not _waits_for(one, first, after=service):
                    _start_prepared(settings, supervisor, one, tell)
        for one in needy if not first else ():
            _start_prepared(settings, supervisor, one, tell)
        if any(service.name == PREFECT for service in wanted):
            deployments.deploy_changes(settings, tell=tell)
        supervisor.wait_ready(needy)
    return status(settings)


def down(settings: Settings, *, tell: Tell = _silent) -> None:
    """Stop whatever `up` started, the last started first; nothing running is fine."""
    supervisor = Supervisor(settings.home, local_services(settings), tell=tell)
    with supervisor.records.lock():
        for service in reversed(supervisor.services):
            if service.name == PREFECT:
                dead_runs.settle(supervisor.find_address(PREFECT), alive=set(), tell=tell)
            supervisor.stop(service.name)


def status(settings: Settings) -> list[ServiceStatus]:
    """Each service as it is now; asks, changes nothing."""
    found = Supervisor(settings.home, local_services(settings), tell=_silent).status()
    if settings.lake_is_embedded:
        return found
    lake = ServiceStatus(LAKE, "elsewhere", None, settings.lake_url, None, None)
    return [lake if one.name == LAKE and one.state == "stopped" else one for one in found]


def _chosen(
    settings: Settings, services: list[Service], only: Collection[str] | None
) -> list[Service]:
    if unknown := set(only or ()) - {service.name for service in services}:
        raise Misconfigured(
            f"there is no service {', '.join(sorted(unknown))}",
            remedy=f"choose from {', '.join(service.name for service in services)}",
        )
    here = [s for s in services if s.name != LAKE or settings.lake_is_embedded]
    return [service for service in here if only is None or service.name in only]


def _needy(settings: Settings, wanted: list[Service]) -> list[Service]:
    """Those of `wanted` whose needs are all kept by this machine."""
    elsewhere = set() if settings.lake_is_embedded else {LAKE}
    return [service for service in wanted if not elsewhere & set(service.needs)]


def _waits_for(service: Service, first: list[Service], *, after: Service) -> bool:
    """Whether it needs one of `first` that comes after the one that just became ready."""
    names = [one.name for one in first]
    return any(need in names[names.index(after.name) + 1 :] for need in service.needs)


def _start_prepared(
    settings: Settings, supervisor: Supervisor, service: Service, tell: Tell
) -> None:
    record = supervisor.records.read(service.name)
    if not (record and record.alive):
        if service.name == PREDICTION:
            first_use.prepare_service(settings, tell=tell)
        if service.name == WORKER:
            # Before a new worker polls, say of the old one's runs which are over.
            alive = {p.pid for p in supervisor.relatives(record)} if record else set()
            dead_runs.settle(supervisor.find_address(PREFECT), alive=alive)
    supervisor.start([service])
