"""Starts services, watches them become ready, stops them; knows them by pid and birth."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM

from flows.errors import Misconfigured
from flows.machine import detach
from flows.machine.home_files import log_path, open_log, quote_end
from flows.machine.probes import port_taken
from flows.machine.process_environment import inherit_environment
from flows.machine.process_records import ProcessRecord, ProcessRecords
from flows.machine.processes import Process, family, find, send, wait_gone
from flows.machine.services import Service

POLL_S = 0.1
RUN_GRACE_S = 5.0
KILL_GRACE_S = 5.0


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now.

    State: running, starting, crashed, stopped, or elsewhere (not on this machine).
    Memory counts its children too.
    """

    name: str
    state: str
    pid: int | None
    address: str
    since: str | None
    memory_bytes: int | None


class Supervisor:
    """Keeps the services of one installation; `tell` gets a line for each thing done."""

    def __init__(
        self, home: Path, services: Sequence[Service], *, tell: Callable[[str], None]
    ) -> None:
        self.home = home
        self.services = list(services)
        self.records = ProcessRecords(home)
        self._tell = tell
        # Every child carries this, which tells our orphans from a stranger's.
        self._mark = f"HEADRACE_HOME={home}"

    def refuse_taken_ports(self, services: Sequence[Service]) -> None:
        """Raise Misconfigured if a stranger listens where one of `services` has to."""
        for service in services:
            record = self.records.read(service.name)
            ours = record is not None and record.alive and record.address == service.address
            if service.port is not None and not ours and port_taken(service.port):
                raise Misconfigured(
                    f"port {service.port}, which the {service.name} needs, is in use"
                    " by another process",
                    remedy=f"stop that process, or set {service.port_variable} to a free port",
                )

    def start(self, services: Sequence[Service]) -> None:
        """Launch those of `services` that do not run as they should; do not wait."""
        for service in services:
            record = self.records.read(service.name)
            if record is None:
                self._launch(service, orphans=[])
            elif not record.alive:
                self._restart(service, record)
            elif record.fingerprint != service.fingerprint:
                self._tell(f"{service.name}: settings changed")
                self.stop(service.name)
                self._launch(service, orphans=[])

    def wait_ready(self, services: Sequence[Service]) -> None:
        """Return once every one of `services` is ready.

        Raises: Misconfigured when one dies or takes longer than it may.
        """
        begun = time.monotonic()
        waiting = list(services)
        while waiting := [s for s in waiting if not self._is_ready(s)]:
            for service in waiting:
                self._refuse_dead(service)
                if time.monotonic() - begun > service.start_s:
                    raise self._too_slow(service)
            time.sleep(POLL_S)

    def stop(self, name: str) -> None:
        """End a service, what it spawned and what its earlier lives left; then forget it.

        Raises: Misconfigured if something survives even SIGKILL.
        """
        record = self.records.read(name)
        if record is None:
            return
        service = next((s for s in self.services if s.name == name), None)
        if service is not None and record.alive:
            self._ask_to_stop(service, record)
        if left := self._end(self.relatives(record)):
            raise Misconfigured(
                f"the {name} (process {left[0].pid}) does not stop",
                remedy="it may wait for a disk or network drive; try headrace down again",
            )
        self.records.remove(name)
        self._tell(f"{name}: stopped")

    def relatives(self, record: ProcessRecord) -> list[Process]:
        """Every live process of a service: itself, its children, its earlier lives' orphans."""
        lives = [(record.pid, record.birth), *record.orphans]
        found = [p for pid, birth in lives for p in family(pid, birth, mark=self._mark)]
        return list({p.pid: p for p in found}.values())

    def status(self) -> list[ServiceStatus]:
        """Each service as it is now."""
        return [self._status(service) for service in self.services]

    def _status(self, service: Service) -> ServiceStatus:
        record = self.records.read(service.name)
        if record is None:
            return ServiceStatus(service.name, "stopped", None, service.address, None, None)
        if not record.alive:
            return ServiceStatus(service.name, "crashed", None, record.address, None, None)
        state = "running" if self._answers(service, record) else "starting"
        memory = sum(process.memory_bytes for process in self.relatives(record))
        return ServiceStatus(service.name, state, record.pid, record.address, record.since, memory)

    def _restart(self, service: Service, record: ProcessRecord) -> None:
        self._tell(f"{service.name}: had crashed")
        left = self.relatives(record)
        if left and not service.hosts_runs:
            self._end(left)
        lives = [*record.orphans, (record.pid, record.birth)] if service.hosts_runs else []
        orphans = [life for life in lives if family(*life, mark=self._mark)]
        self._launch(service, orphans=orphans)

    def _launch(self, service: Service, *, orphans: list[tuple[int, str]]) -> None:
        """Start the service's process; it runs only once its record is on disk."""
        self._tell(f"{service.name}: starting")
        log = log_path(self.home, service.name)
        log_start = open_log(log)
        env = (
            inherit_environment(withheld=service.withheld)
            | dict(service.env)
            | dict(service.secrets())
        )
        with (
            log.open("ab") as output,
            subprocess.Popen(
                [sys.executable, "-I", "-S", detach.__file__, *service.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=env,
                cwd=service.folder,
            ) as launcher,
        ):
            self._record(launcher, service, log_start, orphans)

    def _record(
        self,
        launcher: subprocess.Popen[bytes],
        service: Service,
        log_start: int,
        orphans: list[tuple[int, str]],
    ) -> None:
        said, go = launcher.stdout, launcher.stdin
        process = find(int(said.readline() or 0)) if said else None
        if process is None or go is None:
            raise Misconfigured(
                f"the {service.name} could not be started",
                remedy=f"read {log_path(self.home, service.name)}",
            )
        self.records.write(
            ProcessRecord(
                name=service.name,
                pid=process.pid,
                birth=process.birth,
                since=datetime.now(UTC).isoformat(timespec="milliseconds"),
                address=service.address,
                fingerprint=service.fingerprint,
                log_start=log_start,
                orphans=orphans,
            )
        )
        go.write(detach.GO)

    def _is_ready(self, service: Service) -> bool:
        record = self.records.read(service.name)
        # A stranger could answer in its place, so it has to live after the answer too.
        return record is not None and self._answers(service, record) and record.alive

    def _answers(self, service: Service, record: ProcessRecord) -> bool:
        """Whether what was started is ready, at the address that it was started with.

        What asks through another service believes that one's answers only while it lives.
        """
        needs = [found for need in service.needs if (found := self.records.read(need))]
        ours = record.address == service.address and all(need.alive for need in needs)
        return ours and service.ready(_moment(record))

    def _refuse_dead(self, service: Service) -> None:
        record = self.records.read(service.name)
        if record is None or not record.alive:
            log = log_path(self.home, service.name)
            said = quote_end(log, after=record.log_start if record else 0)
            raise Misconfigured(
                f"the {service.name} stopped while it was starting: {said or 'it said nothing'}",
                remedy=f"read {log}, then run headrace up again",
            )

    def _too_slow(self, service: Service) -> Misconfigured:
        log = log_path(self.home, service.name)
        return Misconfigured(
            f"the {service.name} is not ready after {service.start_s:.0f} s",
            remedy=f"read {log}; then headrace down and headrace up",
        )

    def _ask_to_stop(self, service: Service, record: ProcessRecord) -> None:
        relatives = self.relatives(record)
        if service.hosts_runs:
            # A run that gets SIGTERM reports itself crashed; one its worker kills cannot.
            runs = [p for p in relatives if p.pid != record.pid]
            send(SIGTERM, runs)
            wait_gone(runs, seconds=RUN_GRACE_S)
        leader = [p for p in relatives if p.pid == record.pid]
        send(service.stop_signal, leader)
        wait_gone(leader, seconds=service.grace_s)

    def _end(self, processes: list[Process]) -> list[Process]:
        left = processes
        for number in (SIGTERM, SIGKILL):
            send(number, left)
            left = wait_gone(left, seconds=KILL_GRACE_S)
        return left


def _moment(record: ProcessRecord) -> datetime:
    return datetime.fromisoformat(record.since)
