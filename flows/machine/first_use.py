"""What services find made when they first start: keys of the lake and of the roles, repositories.

The embedded lake has a key for everything, and the prediction service has one of its own.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flows.machine.home_files import read_or_create
from flows.machine.process_environment import LAKE_SECRETS
from flows.settings import LakeAccess, Settings

if TYPE_CHECKING:
    from storage.embedded.keys.access_keys import Grant, Key
    from storage.embedded.keys.keyring import Keyring

SERVICE_KEY = "prediction-service"


def ensure_lake_key(settings: Settings) -> LakeAccess:
    """The lake's key; the first call for an embedded lake makes one, unless one was given."""
    if settings.lake_is_embedded and not _is_key_given(settings):
        read_or_create(settings.lake_credentials_file, _make_lake_key())
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
    key = _find_or_make_key(Keyring(settings.home / "lake"), grants)
    return dict(zip(LAKE_SECRETS, (key.id, key.secret), strict=True))


def prepare_service(settings: Settings, *, tell: Callable[[str], None]) -> None:
    """Make the roles' keys and the pipeline's repositories, where they are missing.

    Raises: Misconfigured for a pipeline that cannot be loaded, BadKey for a folder that holds
    something else than keys.
    """
    from flows.context import open_context
    from flows.keys.first_keys import make_keys

    context = open_context()
    home = make_keys(context.pipeline, settings.keys)
    if home.created:
        tell(f"keys: made in {home.folder}; the root key is {home.root.key_id[:12]}")
    context.create_repositories()


def _find_or_make_key(ring: "Keyring", grants: "tuple[Grant, ...]") -> "Key":
    """The service's key, made anew where the pipeline became another."""
    found = next((one for one in ring.list_keys() if one.name == SERVICE_KEY), None)
    if found is not None and found.grants == grants and (key := ring.find(found.id)):
        return key
    if found is not None:
        ring.revoke(SERVICE_KEY)
    return ring.create(SERVICE_KEY, grants)


def _is_key_given(settings: Settings) -> bool:
    return bool(settings.lake_access_key_id or settings.lake_secret_access_key)


def _make_lake_key() -> str:
    key = {
        "access_key_id": f"AKIAHEADRACE{secrets.token_hex(4).upper()}",
        "secret_access_key": secrets.token_urlsafe(30),
    }
    return json.dumps(key, indent=2) + "\n"
