"""`headrace lake keys`: named access keys of the embedded lake, each open to a part of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson

if TYPE_CHECKING:
    from storage.embedded.keys.keyring import Keyring

app = typer.Typer(
    name="keys", help="Access keys of the embedded lake: make, list, revoke.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What commits and logs call it.")]
Place = "REPOSITORY[/BRANCH]"


@app.callback()
def keys() -> None:
    """Access keys of the embedded lake; the first `headrace up` made the one for everything."""


@app.command()
def create(
    name: Name,
    read: Annotated[
        list[str] | None,
        typer.Option("--read", metavar=Place, help="Leave to read; * and ? match, repeatable."),
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option("--write", metavar=Place, help="Leave to read and write, likewise."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; it works at once, whether the lake runs or not."""
    from flows.cli.terminal import say, show_json, tell
    from storage.embedded.keys.access_keys import Grant

    wanted = [f"read:{place}" for place in read or []] + [f"write:{place}" for place in write or []]
    made = _ring().create(name, tuple(Grant.parse(text) for text in wanted))
    if as_json:
        show_json(
            {
                "name": name,
                "grants": [str(grant) for grant in made.grants],
                "access_key_id": made.id,
                "secret_access_key": made.secret,
            }
        )
        return
    say(f"access key id      {made.id}")
    say(f"secret access key  {made.secret}")
    tell("The secret is shown only now.")


@app.command(name="list")
def list_all(as_json: AsJson = False) -> None:
    """Each key's name, id, grants, when it was made and last used; never its secret."""
    from flows.cli.terminal import show_json, show_table

    head = ("name", "access_key_id", "grants", "created", "last_used")
    rows = [
        (
            one.name,
            one.id,
            [str(grant) for grant in one.grants],
            _day(one.created_s),
            _day(one.used_s),
        )
        for one in _ring().list_keys()
    ]
    if as_json:
        show_json([dict(zip(head, row, strict=True)) for row in rows])
        return
    show_table(head, [(*row[:2], " ".join(row[2]), *row[3:]) for row in rows])


@app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Forget a key: the next request with it is refused, and so is every token it was given."""
    from flows.cli.terminal import say, show_json

    _ring().revoke(name)
    if as_json:
        show_json({"revoked": name})
        return
    say(f"{name} is revoked")


def _ring() -> "Keyring":
    from flows.machine.lake_folder import lake_folder
    from flows.settings import Settings
    from storage.embedded.keys.keyring import Keyring

    return Keyring(lake_folder(Settings.load()))


def _day(seconds: int | None) -> str | None:
    from datetime import UTC, datetime

    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
