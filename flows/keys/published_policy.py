"""The signed trust policy in the releases repository, where every verifier finds it.

The root signs who may sign, the policy role what is good enough. The root's public key never
comes along: whoever verifies has it pinned already.
"""

from pathlib import Path

from flows import audit
from flows.context import Context
from security.errors import Untrusted
from security.keys.pairs import PublicPair
from security.policy.key_homes import PREVIOUS_ROOT
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, load_root
from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin
from storage.registry import layout
from storage.registry.details import PolicyDetails
from storage.runs import Run


def publish_policy(context: Context) -> TrustPolicy:
    """Put the keys folder's policy into the releases repository; a no-op if it stands there.

    The audit log is told in the same commit whose keys were enrolled, retired or revoked by it.
    Raises: Refused for an edition that is not newer than the one there, Untrusted if the one
    there is of another root.
    """
    known, keys, pin = context.trusted.policy, context.keys, context.pin_releases()
    files = {name: (keys / name).read_bytes() for name in (TRUST, RULES)}
    # The same bytes as were verified here need no second verification.
    if _read_files(context.lake, pin) == files:
        return known
    # What is published is what is recorded: both from these very bytes.
    policy = TrustPolicy.parse(files[TRUST], files[RULES], root=known.root)
    standing = _read_standing(context.lake, pin, policy.root, keys)
    if standing is not None and standing.digests == policy.digests:
        return policy
    # Before the transaction too: there, an older edition's own record would say "done".
    _require_newer(policy, standing)

    def body(run: Run) -> None:
        replaced = _read_standing(context.lake, run.base, policy.root, keys)
        _require_newer(policy, replaced)
        for name, data in files.items():
            run.replace(layout.policy_path(name), data)
        audit.append_events(
            run, *audit.policy_events(replaced, policy, context.actor or layout.POLICY)
        )
        digests = policy.digests
        run.describe(
            PolicyDetails(trust=digests.trust, rules=digests.rules, edition=policy.edition)
        )

    run_id = layout.policy_run(policy.digests.trust, policy.digests.rules)
    context.commit_release(layout.POLICY, run_id, body)
    return policy


def read_published_policy(lake: Lake, pin: Pin, root: PublicPair) -> TrustPolicy | None:
    """The policy at a releases commit, verified under the pinned root; None if there is none.

    Raises: Untrusted if it is not the root's.
    """
    files = _read_files(lake, pin)
    if files is None:
        return None
    try:
        return TrustPolicy.parse(files[TRUST], files[RULES], root=root)
    except Untrusted as error:
        raise Untrusted(
            f"The policy in {pin.repository} does not hold: {error}.",
            remedy="Bring back the keys folder that this lake was used with, or its root.json.",
        ) from error


def _read_files(lake: Lake, pin: Pin) -> dict[str, bytes] | None:
    try:
        return {
            name: lake.fs.get(pin.repository, pin.commit, layout.policy_path(name))
            for name in (TRUST, RULES)
        }
    except NotFound:
        return None


def _read_standing(lake: Lake, pin: Pin, root: PublicPair, keys_folder: Path) -> TrustPolicy | None:
    """The published policy; after a rotation of the root also the one that its predecessor signed.

    Raises: Untrusted if neither signed it.
    """
    previous = keys_folder / PREVIOUS_ROOT
    try:
        return read_published_policy(lake, pin, root)
    except Untrusted:
        if not previous.is_file():
            raise
    return read_published_policy(lake, pin, load_root(previous))


def _require_newer(policy: TrustPolicy, standing: TrustPolicy | None) -> None:
    """No edition may go back, and one number may not name two policies."""
    if standing is None:
        return
    new, old = policy.edition, standing.edition
    if new == old or any(n < o for n, o in zip(new, old, strict=True)):
        raise Refused(
            f"The policy here is edition {_format_edition(new)}, "
            f"the published one is {_format_edition(old)}.",
            remedy="Take it over with `headrace keys pin`, and sign changes as the next edition.",
        )


def _format_edition(edition: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in edition)
