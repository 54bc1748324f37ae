"""Stanzas: a bundle's key wrapped for each recipient, in `recipients.json`.

The wrap is HPKE base mode with X-Wing, HKDF-SHA256 and AES-256-GCM; its `info` holds the bundle
and the recipient, so a stanza means nothing anywhere else. The file needs no signature: a stanza
that holds another key opens nothing, because payloads are bound by digest and key commitment.
Its digest of itself is no protection from anyone; it lets whoever holds no key see damage.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from security.errors import SecurityError, Untrusted, cannot_decrypt
from security.files import read_regular, replace_file
from security.formats import canonical
from security.formats.envelope import decode64, encode64
from security.formats.strict_json import Identifier, Sha256, Text, from_json, to_bytes
from security.keys.pairs import Opener, PublicRecipient

RECIPIENTS = "recipients.json"
MAX_RECIPIENTS = 64
KEY_BYTES = 32
_MAX_FILE_BYTES = 256 * 2**10


@dataclass(frozen=True)
class Stanza:
    """The bundle key for one recipient."""

    id: Sha256
    wrapped: Annotated[str, Text(r"[A-Za-z0-9+/]{1,2048}={0,2}", "base64")]


@dataclass(frozen=True)
class Stanzas:
    """Everyone who can open one bundle."""

    bundle_id: Sha256
    suite: Identifier
    recipients: tuple[Stanza, ...]
    sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        ids = {stanza.id for stanza in self.recipients}
        if not 1 <= len(ids) == len(self.recipients) <= MAX_RECIPIENTS:
            raise Untrusted(
                f"a bundle has 1 to {MAX_RECIPIENTS} recipients, each once", code="trust.malformed"
            )

    def names(self, recipient_id: str) -> bool:
        """Whether a recipient is listed."""
        return any(stanza.id == recipient_id for stanza in self.recipients)


def read_stanzas(folder: Path) -> Stanzas:
    """The stanzas of a release folder.

    Raises: Untrusted for a malformed, oversized or ambiguous file.
    """
    data = read_regular(folder / RECIPIENTS, max_bytes=_MAX_FILE_BYTES)
    stanzas = from_json(Stanzas, canonical.parse(data), "recipients")
    for stanza in stanzas.recipients:
        decode64(stanza.wrapped, "a stanza")
    if stanzas.sha256 not in (None, _hash_stanzas(stanzas)):
        raise Untrusted("the recipients' stanzas are damaged", code="trust.digest_mismatch")
    return stanzas


def write_stanzas(folder: Path, stanzas: Stanzas) -> None:
    """Replace the stanzas of a release folder at once."""
    replace_file(folder / RECIPIENTS, to_bytes(replace(stanzas, sha256=_hash_stanzas(stanzas))))


def wrap_key(key: bytes, *, bundle_id: str, recipient: PublicRecipient) -> Stanza:
    """`key` for `recipient` in this bundle alone."""
    info = _make_info(bundle_id, recipient.recipient_id)
    return Stanza(recipient.recipient_id, encode64(recipient.wrap(key, info=info)))


def unwrap_key(stanzas: Stanzas, recipient: Opener) -> bytes:
    """The bundle key, for a recipient that has a stanza.

    Raises: CannotDecrypt, the same whether the stanza is absent, foreign or damaged.
    """
    own = recipient.public.recipient_id
    wrapped = next((stanza.wrapped for stanza in stanzas.recipients if stanza.id == own), "")
    info = _make_info(stanzas.bundle_id, own)
    try:
        key = recipient.unwrap(decode64(wrapped, "a stanza"), info=info)
    except SecurityError:
        found = "the stanza does not open" if wrapped else "there is no stanza for this recipient"
        raise cannot_decrypt(found) from None
    if len(key) != KEY_BYTES:
        raise cannot_decrypt("the stanza holds something else than a bundle's key")
    return key


def _hash_stanzas(stanzas: Stanzas) -> str:
    return hashlib.sha256(to_bytes(replace(stanzas, sha256=None))).hexdigest()


def _make_info(bundle_id: str, recipient_id: str) -> bytes:
    ids = bytes.fromhex(bundle_id) + bytes.fromhex(recipient_id)
    return b"headrace.dev/bundle-key/v1\0" + ids
