"""What `headrace keys` does: rotate, revoke, enrol and pin, each published at once.

Every one may be given again: what was done is not done twice, and is published if it was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from flows.context import Context
from flows.errors import Misconfigured
from flows.keys.signed_history import SignedPayload, find_signed_before
from flows.keys.supplied_keys import BroughtKey, parse_moment, publish
from flows.trust import key_access
from security.errors import BadKey
from security.files import read_regular
from security.formats import canonical
from security.formats.strict_json import from_json, to_bytes, to_json
from security.keys.keyfiles import write_private
from security.keys.pairs import Recipient, RecipientName, RoleSigner, Signer
from security.policy import role_keys, root_and_recipients
from security.policy.documents import Enrolled, PairRecord, RecipientRecord
from security.policy.edition import Ceremony, load_policy
from security.policy.key_homes import encode_public_keys
from security.policy.role_keys import Retirement, find_pair, find_retirement
from security.policy.trust_policy import RULES, TRUST, TrustPolicy
from security.release.index import format_moment
from storage import registry
from storage.registry import layout

ROLES: tuple[Enrolled, ...] = get_args(Enrolled)
# The gatekeeper signs and decrypts: its decryption key has a name of its own here.
OPENERS: Mapping[str, RecipientName] = {
    "serving": "serving",
    "gatekeeper-recipient": "gatekeeper",
}
_MAX_PUBLIC_BYTES = 16 * 2**10


@dataclass(frozen=True)
class CeremonyRequest:
    """Which key is to go, and why. `replaces` makes a rotation one that may be repeated."""

    name: str
    reason: str
    cut_off: str = ""
    replaces: str = ""
    new_key: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    minimum_index: Mapping[str, int] | None = None


def rotate_key(
    context: Context, request: CeremonyRequest, brought: BroughtKey
) -> tuple[Ceremony, list[SignedPayload]]:
    """A new key in the place of one that is still believed for what it signed by now.

    Raises: BadKey, Untrusted, StorageError; keys and policy are as they were then.
    """
    home, name = context.keys, request.name
    policy = load_policy(home)
    if request.replaces and not _is_current_key(policy, name, request.replaces):
        publish(context)
        return Ceremony(policy, already=True), []
    if request.minimum_index and name != "root":
        raise Misconfigured("Only a new root begins a new epoch.", remedy="No --minimum-index.")
    today, kept = datetime.now(UTC), list[SignedPayload]()
    if name == "root":
        done = _rotate_root(context, request, brought.signer(home))
    elif name in OPENERS:
        done = root_and_recipients.rotate_recipient(
            home, OPENERS[name], root=brought.signer(home), passphrase=request.passphrase
        )
    else:
        done, kept = _retire_key(
            context, request, brought, f"rotated on {today:%Y-%m-%d}", today, rotates=True
        )
    publish(context)
    return done, kept


def revoke_key(
    context: Context, request: CeremonyRequest, brought: BroughtKey
) -> tuple[Ceremony, list[SignedPayload]]:
    """A key is not believed any more, but for what stood in the lake at the cut-off, if any.

    Raises: as `rotate_key` does.
    """
    if _is_recipient(context, request.name):
        return drop_recipient(context, request.name, brought), []
    at = parse_moment(request.cut_off) if request.cut_off else None
    done = _retire_key(context, request, brought, request.reason, at)
    publish(context)
    return done


def enrol_key(context: Context, name: str, public_key: Path, brought: BroughtKey) -> Ceremony:
    """One more pair for a role, or a recipient of its own name, by the public half in a file."""
    home, where = context.keys, public_key.name
    fields = canonical.parse(read_regular(public_key, max_bytes=_MAX_PUBLIC_BYTES))
    root = brought.signer(home)
    if name in ROLES:
        pair = from_json(PairRecord, fields, where).pair
        done = role_keys.enrol(home, pair, _parse_role(name), root=root)
    else:
        record = from_json(RecipientRecord, {"name": name, **fields}, where)
        done = root_and_recipients.enrol_recipient(home, record, root=root)
    publish(context)
    return done


def drop_recipient(context: Context, name: str, brought: BroughtKey) -> Ceremony:
    """A recipient for whom no later bundle is sealed."""
    done = root_and_recipients.drop_recipient(context.keys, name, root=brought.signer(context.keys))
    publish(context)
    return done


def make_key(name: str, folder: Path, passphrase: str | None) -> str:
    """A key that nobody has enrolled yet, below `folder`; its public half as JSON."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (folder / name).exists():
        raise BadKey(f"{folder / name} exists already", remedy="name another folder")
    if name in ROLES:
        signer = Signer.generate(_parse_role(name))
        write_private(folder / name, signer.private_halves(), passphrase)
        return to_bytes(PairRecord.of(signer.public)).decode()
    recipient = Recipient.generate()
    document = to_json(RecipientRecord.of(name, recipient.public))
    write_private(folder / name, recipient.private_halves(), passphrase)
    return canonical.encode({k: v for k, v in document.items() if k != "name"}).decode()


def pin_root(context: Context) -> Ceremony:
    """Take over the published policy, and pin the root that it names, if the pinned one signed it.

    Raises: Untrusted if it did not, NotFound if nothing is published.
    """
    lake, pin = context.lake, registry.head(context.lake, context.pipeline.name)
    trust, rules = (
        lake.fs.get(pin.repository, pin.commit, layout.policy_path(name)) for name in (TRUST, RULES)
    )
    return root_and_recipients.pin_successor(context.keys, trust, rules)


def export_public_keys(home: Path) -> bytes:
    """Root, roles and recipients of the verified policy, as canonical JSON."""
    policy = load_policy(home)
    return encode_public_keys(policy.trust, policy.root) + b"\n"


def _rotate_root(context: Context, request: CeremonyRequest, root: RoleSigner) -> Ceremony:
    home, given = context.keys, request.minimum_index
    if given and (left := sorted(_list_environments(context) - given.keys())):
        raise Misconfigured(
            f"A new epoch has no minimum for {left[0]}, where any old index could come back then.",
            remedy=f"Add --minimum-index {left[0]}=N, the number that it stands at.",
        )
    return root_and_recipients.rotate_root(
        home, root=root, passphrase=request.passphrase, minimum_index=request.minimum_index
    )


def _list_environments(context: Context) -> set[str]:
    if context.pipeline.releases not in context.lake.fs.repositories():
        return set()
    head = registry.head(context.lake, context.pipeline.name)
    return set(registry.environments(context.lake, head))


def _retire_key(
    context: Context,
    request: CeremonyRequest,
    brought: BroughtKey,
    reason: str,
    cut_off: datetime | None,
    *,
    rotates: bool = False,
) -> tuple[Ceremony, list[SignedPayload]]:
    home, why = context.keys, request.reason or reason
    trust, kept = load_policy(home).trust, []
    if cut_off is not None and find_retirement(trust, request.name, why) is None:
        # A rotation keeps what stands: the lake's clock and this one need not agree.
        pair, until = find_pair(trust, request.name)[1], None if rotates else cut_off
        kept = find_signed_before(context.lake, pair, until)
    digests = tuple(sorted({one.digest for one in kept}))
    done = role_keys.retire(
        home,
        request.name,
        root=brought.signer(home),
        retirement=Retirement(why, format_moment(cut_off) if cut_off else None, digests),
        successor=_find_successor(trust_role=request.name, request=request, home=home),
        passphrase=request.passphrase,
    )
    return done, [] if done.already else kept


def _find_successor(*, trust_role: str, request: CeremonyRequest, home: Path) -> RoleSigner | None:
    if request.new_key is None:
        return None
    role, _ = find_pair(load_policy(home).trust, trust_role)
    return key_access.key_reader(request.passphrase).read_signer(request.new_key, role)


def _is_current_key(policy: TrustPolicy, name: str, replaces: str) -> bool:
    """Whether the key that `name` stands for now is the one to be replaced."""
    if name == "root":
        current = [policy.root.key_id]
    elif name in OPENERS:
        current = [policy.recipient(OPENERS[name]).recipient_id]
    else:
        current = [find_pair(policy.trust, name)[1].key_id]
    return any(key.startswith(replaces) for key in current)


def _is_recipient(context: Context, name: str) -> bool:
    named = {one.name for one in load_policy(context.keys).trust.recipients}
    return name in named and name not in ROLES


def _parse_role(name: str) -> Enrolled:
    for role in ROLES:
        if role == name:
            return role
    raise Misconfigured(f"{name!r} is no role.", remedy=f"Choose from {', '.join(ROLES)}.")
