"""`headrace keys`: the roles' keys, from the first policy to their retirement."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName, RootKey, Yes, parse_numbers

if TYPE_CHECKING:
    from flows.keys.signed_history import SignedPayload
    from security.policy.edition import Ceremony

app = typer.Typer(name="keys", help="Keys of the roles that sign.", no_args_is_help=True)

RootPassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What unlocks the root's key files.")
]
LockFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        envvar="HEADRACE_PASSPHRASE_FILE",
        help="Lock the key files with the passphrase in FILE; a random one is made if it is new.",
    ),
]
Indexes = Annotated[
    list[str] | None,
    typer.Option("--minimum-index", metavar="ENV=N", help="Of every environment; repeatable."),
]


@app.callback()
def keys() -> None:
    """Keys of the roles that sign, and of the service that decrypts."""


@app.command()
def init(
    passphrase_file: LockFile = None, pipeline: PipelineName = None, as_json: AsJson = False
) -> None:
    """Make every role's key and sign the first policy; a second time changes nothing."""
    from flows.cli.terminal import say, show_json
    from flows.context import load_definition
    from flows.keys.first_keys import make_keys
    from security.keys.keyfiles import make_passphrase

    settings, definition = load_definition(pipeline)
    phrase = make_passphrase(passphrase_file) if passphrase_file else None
    home = make_keys(definition, settings.keys, passphrase=phrase)
    if as_json:
        folder, root = str(home.folder), home.root.key_id
        show_json({"folder": folder, "created": home.created, "root_key_id": root})
        return
    say(str(home))
    say(f"root key {home.root.key_id[:12]}; each role's private half is in a folder of its own")
    if passphrase_file and home.created:
        say(f"locked; every process that signs needs HEADRACE_PASSPHRASE_FILE={passphrase_file}")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List every key that the policy enrols or has retired, and where this machine's are."""
    from flows.cli.terminal import show_json, show_table
    from flows.keys.key_table import list_keys
    from flows.settings import Settings

    found = list_keys(Settings.load().keys)
    if as_json:
        show_json(found)
        return
    head = ("role", "key", "state", "since (UTC)", "source", "algorithms", "reason")
    show_table(
        head,
        [(k.role, k.id[:12], k.state, k.since, k.source, k.algorithms, k.reason) for k in found],
    )


@app.command()
def rotate(
    name: Annotated[
        str, typer.Argument(metavar="ROLE|ID", help="A role, a key id, `serving` or `root`.")
    ],
    reason: Annotated[str, typer.Option(help="Why; once per reason.")] = "",
    new_key: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Enrol this pair instead of a new one.")
    ] = None,
    replaces: Annotated[
        str, typer.Option(metavar="ID", help="Only if this is the key now: may be repeated.")
    ] = "",
    minimum_index: Indexes = None,
    root_key: RootKey = None,
    root_passphrase_file: RootPassphraseFile = None,
    passphrase_file: LockFile = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Enrol a new key; the old one stays believed for everything that it had signed by now."""
    from flows.cli.terminal import actor
    from flows.context import open_context
    from flows.keys.ceremonies import CeremonyRequest, rotate_key
    from flows.keys.supplied_keys import BroughtKey

    context = open_context(pipeline).acting(actor())
    brought = BroughtKey(root_key, root_passphrase_file)
    request = CeremonyRequest(
        name,
        reason,
        replaces=replaces,
        new_key=new_key,
        passphrase=_read_phrase(passphrase_file),
        minimum_index=parse_numbers(minimum_index, "--minimum-index", least=0),
    )
    done, kept = rotate_key(context, request, brought)
    _tell(done, kept, as_json=as_json)


@app.command()
def revoke(
    name: Annotated[
        str, typer.Argument(metavar="ROLE|ID", help="A role, a key's id, or a recipient's name.")
    ],
    reason: Annotated[str, typer.Option(help="Why; it is signed into the policy for good.")],
    cut_off: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Believe what stood in the lake at that time; without it, believe nothing.",
        ),
    ] = "",
    root_key: RootKey = None,
    root_passphrase_file: RootPassphraseFile = None,
    passphrase_file: LockFile = None,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Stop believing a key, and enrol a new one in its place."""
    from flows.cli.terminal import actor, confirm
    from flows.context import open_context
    from flows.keys.ceremonies import CeremonyRequest, revoke_key
    from flows.keys.supplied_keys import BroughtKey

    context = open_context(pipeline).acting(actor())
    brought = BroughtKey(root_key, root_passphrase_file)
    request = CeremonyRequest(
        name, reason, cut_off=cut_off, passphrase=_read_phrase(passphrase_file)
    )
    confirm(f"Revoke {name}? Statements that only it signed stop verifying.", yes=yes)
    done, kept = revoke_key(context, request, brought)
    _tell(done, kept, as_json=as_json)


@app.command()
def enrol(
    role: Annotated[
        str, typer.Argument(metavar="ROLE|NAME", help="A role, or a recipient's new name.")
    ],
    public_key: Annotated[
        Path, typer.Argument(metavar="FILE", help="The public half, as `keys make` printed it.")
    ],
    root_key: RootKey = None,
    root_passphrase_file: RootPassphraseFile = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Enrol one more pair for a role, or one more recipient; its owner keeps the private half."""
    from flows.cli.terminal import actor
    from flows.context import open_context
    from flows.keys.ceremonies import enrol_key
    from flows.keys.supplied_keys import BroughtKey

    context = open_context(pipeline).acting(actor())
    brought = BroughtKey(root_key, root_passphrase_file)
    _tell(enrol_key(context, role, public_key, brought), [], as_json=as_json)


@app.command()
def make(
    role: Annotated[
        str, typer.Argument(metavar="ROLE|NAME", help="A role, or a recipient's name.")
    ],
    folder: Annotated[Path, typer.Argument(help="A new folder for the role's folder.")],
    passphrase_file: LockFile = None,
) -> None:
    """Make a key that nobody has enrolled yet, and print its public half."""
    from flows.cli.terminal import say
    from flows.keys.ceremonies import make_key

    say(make_key(role, folder, _read_phrase(passphrase_file, make=True)))


@app.command()
def pin(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """Pin the root that the pinned one has named as its successor."""
    from flows.context import open_context
    from flows.keys.ceremonies import pin_root

    _tell(pin_root(open_context(pipeline)), [], as_json=as_json)


@app.command("export-public")
def export_public(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, or - for stdout.")],
) -> None:
    """Write every public key that the policy enrols, for others to pin or to audit."""
    from flows.keys.ceremonies import export_public_keys
    from flows.settings import Settings
    from security.files import replace_file

    document = export_public_keys(Settings.load().keys)
    if file == "-":
        sys.stdout.write(document.decode())
    else:
        replace_file(Path(file).absolute(), document)


def _read_phrase(path: Path | None, *, make: bool = False) -> str | None:
    from security.keys.keyfiles import make_passphrase, read_passphrase

    if path is None:
        return None
    return make_passphrase(path) if make else read_passphrase(path)


def _tell(done: "Ceremony", kept: "Sequence[SignedPayload]", *, as_json: bool) -> None:
    from flows.cli.terminal import say, show_json, tell
    from flows.keys.supplied_keys import describe_ceremony

    if as_json:
        show_json(describe_ceremony(done, kept))
        return
    if done.already:
        tell("This was done before; nothing was changed now.")
        if done.retired:
            tell(
                "Is the key that followed to go as well? Name it by its id, or give its own reason."
            )
    if done.retired:
        say(f"retired {done.retired[:12]}")
        say(f"still believed for {len(kept)} payloads" if kept else "")
    if done.enrolled:
        say(f"enrolled {done.enrolled[:12]}")
    edition = (done.policy.trust.epoch, done.policy.trust.version, done.policy.rules.version)
    say(f"policy edition {'.'.join(map(str, edition))}")
