"""The key of the embedded lake, made once."""

import json
import secrets

from flows.settings import LakeAccess, Settings
from flows.up.private_files import read_or_create


def ensure_lake_key(settings: Settings) -> LakeAccess:
    """The lake's key; the first call for an embedded lake makes one, unless one was given."""
    if settings.lake_is_embedded and not _given(settings):
        read_or_create(settings.lake_credentials_file, _made())
    return settings.lake_access()


def _given(settings: Settings) -> bool:
    return bool(settings.lake_access_key_id or settings.lake_secret_access_key)


def _made() -> str:
    key = {
        "access_key_id": f"AKIAHEADRACE{secrets.token_hex(4).upper()}",
        "secret_access_key": secrets.token_urlsafe(30),
    }
    return json.dumps(key, indent=2) + "\n"
