"""The keys of the embedded lake: the one for everything, and the prediction service's own."""

import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.machine.private_files import read_or_create
from flows.machine.process_environment import LAKE_SECRETS
from flows.settings import LakeAccess, Settings

if TYPE_CHECKING:
    from storage.embedded.keys.access_keys import Grant, Key
    from storage.embedded.keys.keyring import Keyring

SERVICE_KEY = "prediction-service"


def ensure_lake_key(settings: Settings) -> LakeAccess:
    """The lake's key; the first call for an embedded lake makes one, unless one was given."""
    if settings.lake_is_embedded and not _given(settings):
        read_or_create(settings.lake_credentials_file, _made())
    return settings.lake_access()


def service_key(settings: Settings) -> Mapping[str, str]:
    """The variables with which the prediction service reaches an embedded lake.

    Its key reads releases and writes to `landing`, and nothing else: training data is not its
    business, and what it lands is checked before it counts. A lakeFS of one's own has its own
    keys; there this is empty.
    """
    if not settings.lake_is_embedded:
        return {}
    from flows.context import load_definition
    from storage.embedded.keys.access_keys import Grant
    from storage.embedded.keys.keyring import Keyring
    from storage.lake import LANDING

    _, pipeline = load_definition(settings.pipeline)
    grants = (
        Grant.parse(f"read:{pipeline.releases}"),
        Grant.parse(f"write:{pipeline.repository}/{LANDING}"),
    )
    key = _kept(Keyring(settings.home / "lake"), grants)
    return dict(zip(LAKE_SECRETS, (key.id, key.secret), strict=True))


def _kept(ring: "Keyring", grants: "tuple[Grant, ...]") -> "Key":
    """The service's key, made anew where the pipeline became another."""
    found = next((one for one in ring.listed() if one.name == SERVICE_KEY), None)
    if found is not None and found.grants == grants and (key := ring.find(found.id)):
        return key
    if found is not None:
        ring.revoke(SERVICE_KEY)
    return ring.create(SERVICE_KEY, grants)


def _given(settings: Settings) -> bool:
    return bool(settings.lake_access_key_id or settings.lake_secret_access_key)


def _made() -> str:
    key = {
        "access_key_id": f"AKIAHEADRACE{secrets.token_hex(4).upper()}",
        "secret_access_key": secrets.token_urlsafe(30),
    }
    return json.dumps(key, indent=2) + "\n"
