"""`headrace data forget` and `expire`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    AsJson,
    DryRun,
    OnBranch,
    PipelineName,
    Reason,
    Yes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from flows.context import Context
    from flows.data.forget import ForgetRequest, Found

app = typer.Typer()

_SECRET_BYTES = 32

PurgeAfter = Annotated[
    str,
    typer.Option("--purge-after", metavar="PERIOD", help="When old versions lose them: 30d, 12h."),
]


@dataclass(frozen=True)
class ForgetOptions:
    """What `forget` and `expire` are told alike. `quiet`: the caller prints JSON instead."""

    on: str
    dry_run: bool
    yes: bool
    quiet: bool


@app.command()
def forget(
    reason: Reason,
    dataset: Annotated[str, typer.Option(help="The table whose column the key is.")],
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Whose rows; a column twice for two keys."),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="CSV or Parquet: the key's columns, a key a row."),
    ] = None,
    purge_after: PurgeAfter = "30d",
    on: OnBranch = "main",
    dry_run: DryRun = False,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Take a person's rows out of every table that has the key; old versions are purged later."""
    from datetime import UTC, datetime
    from pathlib import Path

    from flows.cli.terminal import show_json
    from flows.context import open_context
    from flows.data import forget as forgetting

    if bool(key) == bool(keys):
        raise typer.BadParameter("give --key COLUMN=VALUE or --keys FILE", param_hint="--key")
    columns, values = _parse_keys(key) if key else _read_keys(Path(str(keys)))
    context = open_context(pipeline)
    request = forgetting.by_key(
        dataset,
        columns,
        values,
        secret=_load_secret(context),
        purge_after=datetime.now(UTC) + forgetting.parse_period(purge_after),
    )
    options = ForgetOptions(on=on, dry_run=dry_run, yes=yes, quiet=as_json)
    answer = _forget(context, request, reason, options)
    if as_json:
        show_json(answer)


@app.command()
def expire(
    datasets: Annotated[
        list[str] | None, typer.Argument(metavar="DATASET...", help="Which; without, all.")
    ] = None,
    purge_after: PurgeAfter = "30d",
    on: OnBranch = "main",
    dry_run: DryRun = False,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Forget the rows whose event time is past the retention of their dataset."""
    from datetime import UTC, datetime

    from flows.cli.terminal import show_json, tell
    from flows.context import open_context
    from flows.data import forget as forgetting

    context, now = open_context(pipeline), datetime.now(UTC)
    due = now + forgetting.parse_period(purge_after)
    chosen = datasets or [d.name for d in context.pipeline.datasets if d.retention]
    if not chosen:
        tell("No dataset of the pipeline has a retention; nothing was changed.")
    options, answers = ForgetOptions(on=on, dry_run=dry_run, yes=yes, quiet=as_json), []
    for name in chosen:
        request = forgetting.expired(context.pipeline, name, now=now, purge_after=due)
        reason = f"older than {request.said['before']}"
        answer = _forget(context, request, reason, options)
        answers.append({"dataset": name, **answer})
    if as_json:
        show_json(answers)


def _forget(
    context: "Context",
    request: "ForgetRequest",
    reason: str,
    options: ForgetOptions,
) -> dict[str, object]:
    from flows.cli.terminal import actor, confirm, say, tell
    from flows.data import forget as forgetting

    found = forgetting.look(context.lake, context.pipeline, request, on=options.on)
    if not options.quiet:
        _show(found)
    done, commit, already = None, None, False
    if not options.dry_run and not found.is_empty:
        confirm(f"Forget these rows on {options.on}?", yes=options.yes)
        outcome = forgetting.forget_rows(
            context.acting(actor(), command="headrace data forget"),
            request,
            found,
            reason=reason,
            on=options.on,
        )
        done, commit, already = outcome.record.run_id, outcome.pin.commit, outcome.already
    if done and not options.quiet:
        due = f"{request.purge_after:%Y-%m-%d}"
        say(f"forget {done[:12]}, at {str(commit)[:12]}; purge after {due}")
    if not done:
        tell("Nothing was changed" + (": this was a dry run." if options.dry_run else "."))
    state = {"run_id": done, "commit": commit, "already": already, "dry_run": options.dry_run}
    return {**state, "purge_after": request.purge_after, "found": found}


def _show(found: "Found") -> None:
    from flows.cli.terminal import say, show_table, tell, thousands

    rows = [(table, thousands(count)) for table, count in found.rows.items()]
    show_table(("table", "rows"), rows, right="rows")
    say(f"in all versions: {found.files} files, {found.logs} log entries")
    for title, names in (
        ("landed batches that go", found.batches),
        ("tables with old files that go", found.lingering),
        ("branches that still show them (forget there too: --on BRANCH)", found.branches),
        ("releases whose data has them", found.releases),
        ("other objects that mention a value (not changed)", found.mentions),
        ("could not be searched", found.unreadable),
    ):
        if names:
            say(f"{title}: {', '.join(names)}")
    if found.is_empty:
        tell("There is no such row.")


def _parse_keys(keys: list[str]) -> tuple[list[str], list[list[str]]]:
    """Several columns are one key; one column several times is several keys."""
    pairs = [text.partition("=") for text in keys]
    if bad := [name for name, sign, _ in pairs if not sign or not name]:
        raise typer.BadParameter(f"{bad[0]!r} is no COLUMN=VALUE", param_hint="--key")
    columns = list(dict.fromkeys(name for name, _, _ in pairs))
    if len(columns) == 1:
        return columns, [[value] for _, _, value in pairs]
    if len(columns) < len(pairs):
        raise typer.BadParameter(
            "several keys of several columns go into a file: --keys FILE", param_hint="--key"
        )
    return columns, [[value for _, _, value in pairs]]


def _read_keys(path: "Path") -> tuple[list[str], list[list[str]]]:
    import polars as pl

    from flows.errors import Misconfigured

    try:
        frame = (
            pl.read_parquet(path).cast(pl.String)
            if path.suffix == ".parquet"
            else pl.read_csv(path, infer_schema=False)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Misconfigured(
            f"{path} cannot be read as keys: {str(error).splitlines()[0]}",
            remedy="Write CSV with a header, or Parquet: the key's columns and nothing else.",
        ) from error
    if frame.is_empty() or any(frame.null_count().row(0)):
        raise Misconfigured(
            f"{path} has no key, or an empty one.", remedy="A whole key in each row."
        )
    return frame.columns, [list(row) for row in frame.rows()]


def _load_secret(context: "Context") -> bytes:
    import secrets

    from flows.cli.terminal import tell
    from flows.errors import Misconfigured
    from flows.machine.home_files import read_or_create

    path = context.settings.home / "forget.key"
    if not path.exists():
        tell(f"{path} is new: keep it, it alone can show later whom a record means.")
    text = read_or_create(path, secrets.token_hex(_SECRET_BYTES)).strip()
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) < _SECRET_BYTES:
        raise Misconfigured(
            f"{path} is no key: it must hold {2 * _SECRET_BYTES} hex digits",
            remedy="Bring it back from where you keep keys; without it, move it away, and what "
            "was forgotten before cannot be shown any more.",
        )
    return secret
