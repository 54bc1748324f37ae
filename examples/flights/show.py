"""What a person sees of the demo: a line a step, then the year in one table."""

import os
import sys
import time
from calendar import month_abbr, month_name
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from examples.flights.feed import MONTHS, YEAR
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.context import Context
    from flows.monitor.decide import Decision

STEPS = {
    "deliver": "a feed hands over sealed batches on the landing branch",
    "ingest": "contracts checked, bad rows quarantined, one merge a batch",
    "train": "pinned data -> features -> model -> sealed; the trainer signs what it came from",
    "gate": "opened by another role, measured again on the pinned data, its evidence signed",
    "serve": "released by a third; a signed index names it; the service verifies, then loads",
    "monitor": "what was served, beside the truth and a fresh challenger -> a decision",
    "rollback": "model and data go back together, as new history",
}


@dataclass
class Teller:
    """Prints each step with the time since the start, and explains a kind of step once."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    unexplained: dict[str, str] = field(default_factory=lambda: dict(STEPS))

    def __call__(self, step: str, text: str) -> None:
        """One line; the first of its kind says what the step proves."""
        elapsed = time.monotonic() - self.started
        self.console.print(f"[dim]{elapsed:6.1f} s[/]  [bold]{step:<9}[/] {text}", highlight=False)
        if why := self.unexplained.pop(step, ""):
            self.console.print(f"{'':21}[dim italic]{why}[/]", highlight=False)


def run_demo(settings: Settings) -> None:
    """The whole year on the running machine, then what it came to."""
    _use_own_prefect(settings)
    from examples.flights.demo import FIRST_LIVE_MONTH, Demo
    from flows.context import open_run

    console = _console()
    context, tell = open_run(), Teller(console)
    demo = Demo(context, tell)
    console.rule(f"January to March {YEAR}", style="dim")
    demo.bootstrap()
    for month in range(FIRST_LIVE_MONTH, MONTHS[-1] + 1):
        console.rule(f"{month_name[month]} {YEAR}", style="dim")
        demo.live_month(month)
    console.rule("The year", style="dim")
    console.print(year_table(context))
    _farewell(console, settings, demo.newest_release(), time.monotonic() - tell.started)


def year_table(context: "Context") -> Table:
    """One line a month, as the records on main have it; losses are log loss in nats."""
    from examples.flights.year import year

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    left = {"month", "verdict", "started", "served by"}
    for name in ("month", "rows in", "kept", "quar.", "served by", "loss", "rival's"):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("started", no_wrap=True)
    for one in year(context):
        decision = one.decision
        table.add_row(
            month_abbr[one.month],
            f"{one.delivered:,}",
            f"{one.kept:,}",
            f"{one.quarantined:,}",
            decision.release if decision else "",
            _nats(one.champion),
            _nats(one.challenger),
            _verdict(decision) if decision else "[dim]to learn from[/]",
            one.triggered,
        )
    return table


def _verdict(decision: "Decision") -> str:
    colour = {"none": "green", "retrain": "yellow", "fix-feed": "red"}.get(decision.action, "dim")
    quiet = decision.action == "none" and not decision.alarm
    held = decision.action == "none" and decision.alarm
    word = "no alarm" if quiet else f"held: {decision.reason}" if held else decision.action
    sign = "<" if quiet else ">"
    if decision.level == 1:
        numbers = f"{decision.witness} {decision.statistic:.0%} {sign} {decision.threshold:.0%}"
    else:
        numbers = f"t {decision.statistic:.1f} {sign} {decision.threshold:.1f}"
    return f"[{colour}]{word}[/], {numbers}"


def _nats(loss: float | None) -> str:
    return f"{loss:.3f}" if loss is not None else ""


def _farewell(console: Console, settings: Settings, release: str, seconds: float) -> None:
    console.print(
        f"\n{seconds:.0f} s. Runs and artifacts: {settings.prefect_url}   "
        f"Predictions: {settings.service_url}/v2/models/flights\n\nTry\n"
        f"  . .venv/bin/activate\n"
        f"  headrace verify {release}          who built it, from what, through which gates\n"
        f"  headrace data log arrivals      who wrote what, commit by commit\n"
        f"  headrace rollback --environment production --reason 'a drill' --may-run-again\n"
        f"`make down` stops everything; `make demo` again shows that nothing happens twice.",
        highlight=False,
        markup=False,
    )


def _console() -> Console:
    """Where the output is kept in a file, the table is not cut to 80 columns."""
    return Console(soft_wrap=True) if sys.stdout.isatty() else Console(soft_wrap=True, width=110)


def _use_own_prefect(settings: Settings) -> None:
    """Prefect reads its settings when it is imported: before that, point it at our server."""
    from flows.machine import environment

    ours = environment(settings)
    os.environ.update({k: v for k, v in ours.items() if k.startswith(("PREFECT_", "HEADRACE_"))})
