"""`headrace keys`: the roles' keys and the first signed policy."""

import typer

from flows.commandline import AsJson, PipelineName

app = typer.Typer(name="keys", help="Keys of the roles that sign.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys of the roles that sign, and of the service that decrypts."""


@app.command()
def init(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """Make every role's key and sign the first policy; a second time changes nothing."""
    from flows.keys import make_keys
    from flows.lakes import load_definition
    from flows.terminal import say, show_json

    settings, definition = load_definition(pipeline)
    home = make_keys(definition, settings.keys)
    if as_json:
        folder, root = str(home.folder), home.root.key_id
        show_json({"folder": folder, "created": home.created, "root_key_id": root})
        return
    say(str(home))
    say(f"root key {home.root.key_id[:12]}; each role's private half is in a folder of its own")
