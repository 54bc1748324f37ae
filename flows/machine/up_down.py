"""Start everything, stop everything, and show the state of everything."""

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


def _ignore(_: str) -> None:
    """Progress that nobody reads."""


def up(
    settings: Settings, only: Collection[str] | None = None, *, tell: Tell = _ignore
) -> list[ServiceStatus]:
    """Start what does not run (of `only`, or everything), wait until it is ready, deploy.

    Raises: Misconfigured when a port is taken, a service dies, or a deployment is refused.
    """
    supervisor = Supervisor(settings.home, local_services(settings), tell=tell)
    wanted = _choose(settings, supervisor.services, only)
    with supervisor.records.lock():
        supervisor.refuse_taken_ports(wanted)
        _refuse_missing_needs(settings, supervisor, wanted)
        first_use.ensure_lake_key(settings)
        first = [service for service in wanted if not service.needs]
        needy = [service for service in wanted if service.needs]
        supervisor.start(first)
        for service in first:
            # Prefect takes longest: what needs only the lake starts meanwhile.
            supervisor.wait_ready([service])
            for one in needy:
                if not _waits_for(one, first, after=service):
                    _prepare_and_start(settings, supervisor, one, tell)
        for one in needy if not first else ():
            _prepare_and_start(settings, supervisor, one, tell)
        if any(service.name == PREFECT for service in wanted):
            deployments.deploy_changes(settings, tell=tell)
        supervisor.wait_ready(needy)
    return status(settings)


def down(settings: Settings, *, tell: Tell = _ignore) -> None:
    """Stop whatever `up` started, the last started first; nothing running is fine."""
    supervisor = Supervisor(settings.home, local_services(settings), tell=tell)
    with supervisor.records.lock():
        for service in reversed(supervisor.services):
            if service.name == PREFECT:
                dead_runs.settle(supervisor.records.find_address(PREFECT), alive=set(), tell=tell)
            supervisor.stop(service.name)


def status(settings: Settings) -> list[ServiceStatus]:
    """Each service as it is now; asks, changes nothing."""
    found = Supervisor(settings.home, local_services(settings), tell=_ignore).status()
    if settings.lake_is_embedded:
        return found
    lake = ServiceStatus(LAKE, "elsewhere", None, settings.lake_url, None, None)
    return [lake if one.name == LAKE and one.state == "stopped" else one for one in found]


def _choose(
    settings: Settings, services: list[Service], only: Collection[str] | None
) -> list[Service]:
    if unknown := set(only or ()) - {service.name for service in services}:
        raise Misconfigured(
            f"there is no service {', '.join(sorted(unknown))}",
            remedy=f"choose from {', '.join(service.name for service in services)}",
        )
    here = [s for s in services if s.name != LAKE or settings.lake_is_embedded]
    return [service for service in here if only is None or service.name in only]


def _refuse_missing_needs(
    settings: Settings, supervisor: Supervisor, wanted: list[Service]
) -> None:
    """Raise Misconfigured if a need is neither in `wanted` nor running.

    Somebody else's server may listen where the missing one would, and would be used.
    """
    names = {service.name for service in wanted}
    elsewhere = set() if settings.lake_is_embedded else {LAKE}
    for service in wanted:
        for need in set(service.needs) - names - elsewhere:
            if supervisor.records.find_address(need) is None:
                raise Misconfigured(
                    f"the {service.name} needs the {need} of this project, which does not run",
                    remedy="start both: headrace up",
                )


def _waits_for(service: Service, first: list[Service], *, after: Service) -> bool:
    """Whether it needs one of `first` that comes after the one that just became ready."""
    names = [one.name for one in first]
    return any(need in names[names.index(after.name) + 1 :] for need in service.needs)


def _prepare_and_start(
    settings: Settings, supervisor: Supervisor, service: Service, tell: Tell
) -> None:
    record = supervisor.records.read(service.name)
    if not (record and record.alive):
        if service.name == PREDICTION:
            first_use.prepare_service(settings, tell=tell)
        if service.name == WORKER:
            # Before a new worker polls, the runs that died with the old one get their state.
            alive = {p.pid for p in supervisor.relatives(record)} if record else set()
            dead_runs.settle(supervisor.records.find_address(PREFECT), alive=alive)
    supervisor.start([service])
