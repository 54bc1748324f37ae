"""`headrace policy`: what is good enough, who must sign, and what may be loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName, parse_numbers

if TYPE_CHECKING:
    from security.policy.trust_policy import TrustPolicy

app = typer.Typer(
    name="policy", help="The signed trust policy: gates, roles, thresholds.", no_args_is_help=True
)

Numbers = list[str] | None


@app.command()
def show(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """Show the policy in the keys folder, verified, and what the definition would change in it."""
    from flows.cli.terminal import show_json, tell
    from flows.context import load_definition
    from flows.keys.next_rules import draft_rules
    from security.formats.strict_json import to_json
    from security.policy.edition import load_policy

    settings, definition = load_definition(pipeline)
    policy = load_policy(settings.keys)
    unsigned = draft_rules(policy.rules, definition) != policy.rules
    if as_json:
        trust, rules = to_json(policy.trust), to_json(policy.rules)
        show_json({"trust": trust, "rules": rules, "definition_differs": unsigned})
        return
    _show(policy)
    if unsigned:
        tell(f"The gates or types of {definition.name} differ: `headrace policy sign` signs them.")


@app.command()
def sign(
    require_clean_code: Annotated[
        bool | None,
        typer.Option(
            "--require-clean-code/--allow-unclean-code",
            help="Whether a release may come from code that was not committed.",
        ),
    ] = None,
    releasers: Annotated[
        Numbers, typer.Option(metavar="ENV=N", help="Releasers that an index of ENV needs.")
    ] = None,
    threshold: Annotated[
        Numbers, typer.Option(metavar="ROLE=N", help="Holders of ROLE that must sign.")
    ] = None,
    minimum_index: Annotated[
        Numbers, typer.Option(metavar="ENV=N", help="The lowest index of ENV to be believed.")
    ] = None,
    policy_key: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where the policy role's key is.")
    ] = None,
    root_key: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where the root's key is.")
    ] = None,
    key_passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What unlocks the keys named here.")
    ] = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Sign the definition's gates and types as the next rules, and the numbers given; publish."""
    from flows.cli.terminal import actor, say, show_json
    from flows.context import open_context
    from flows.keys.next_rules import TrustNumbers, sign_rules
    from flows.keys.supplied_keys import BroughtKey

    context = open_context(pipeline).acting(actor())
    numbered = TrustNumbers(
        releasers=parse_numbers(releasers, "--releasers"),
        thresholds=parse_numbers(threshold, "--threshold"),
        minimum_index=parse_numbers(minimum_index, "--minimum-index"),
    )
    policy, changed = sign_rules(
        context,
        numbered,
        require_clean_code=require_clean_code,
        policy_key=BroughtKey(policy_key, key_passphrase_file),
        root_key=BroughtKey(root_key, key_passphrase_file),
    )
    edition = [policy.trust.epoch, policy.trust.version, policy.rules.version]
    if as_json:
        show_json({"changed": changed, "edition": edition, "rules": policy.digests.rules})
        return
    say("signed and published" if changed else "nothing to sign; the policy is published as it is")
    say(f"policy edition {'.'.join(map(str, edition))}")


def _show(policy: "TrustPolicy") -> None:
    from flows.cli.terminal import say, show_table

    trust, rules = policy.trust, policy.rules
    say(f"edition {trust.epoch}.{trust.version}.{rules.version}, root {policy.root.key_id[:12]}")
    for model, gates in sorted(rules.gates.items()):
        say(f"{model}: {', '.join(f'{g.metric} {g.comparator} {g.bound}' for g in gates)}")
    say(f"uncommitted code: {'refused' if rules.require_clean_code else 'allowed'}")
    say(f"types a retraining may load: {', '.join(rules.skops_types) or 'the default ones'}")
    rows = [(role, keys.threshold, len(keys.keys)) for role, keys in sorted(trust.roles.items())]
    show_table(("role", "must sign", "enrolled"), rows, right="must enrolled")
    for environment, number in sorted((trust.index_thresholds or {}).items()):
        say(f"{environment}: {number} releasers sign an index")
    for environment, number in sorted((trust.minimum_index or {}).items()):
        say(f"{environment}: no index below {number} is believed")
