"""lakectl's own settings, honoured for people who set those up first.

Its variables, over the file that LAKECTL_CONFIG_FILE names, over ~/.lakectl.yaml, as lakectl
itself reads them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.errors import Misconfigured

CONFIG_FILE = "LAKECTL_CONFIG_FILE"
# Headrace's field -> where lakectl's file has it; its variable is named for the place.
PLACES = {
    "lake_endpoint": ("server", "endpoint_url"),
    "lake_access_key_id": ("credentials", "access_key_id"),
    "lake_secret_access_key": ("credentials", "secret_access_key"),
}
VARIABLES = {
    field: f"LAKECTL_{section}_{name}".upper() for field, (section, name) in PLACES.items()
}


def is_set(environ: Mapping[str, str]) -> bool:
    """Whether one of lakectl's variables asks for a lake."""
    return any(environ.get(variable) for variable in VARIABLES.values())


def read_config(environ: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Endpoint and key, by Headrace's names; None unless lakectl has all three.

    Raises: Misconfigured for a file that cannot be read, or variables that want a file's help
    and get none.
    """
    found = _read_file(environ) | {
        field: environ[variable] for field, variable in VARIABLES.items() if environ.get(variable)
    }
    if missing := [variable for field, variable in VARIABLES.items() if not found.get(field)]:
        if is_set(environ):
            raise Misconfigured(
                f"lakectl's settings are incomplete: {missing[0]} is not set",
                remedy="set it, unset the other LAKECTL_ variables, or use LAKEFS_ENDPOINT,"
                " LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY",
            )
        return None
    # lakectl takes the endpoint with or without the API's path.
    endpoint = found["lake_endpoint"].rstrip("/").removesuffix("/api/v1")
    return found | {"lake_endpoint": endpoint}


def _read_file(environ: Mapping[str, str]) -> dict[str, str]:
    path = Path(environ.get(CONFIG_FILE) or "~/.lakectl.yaml").expanduser()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse(path, str(error)) from error
    if not text.strip():
        return {}
    content = _parse(path, text)
    sections = {field: content.get(section) for field, (section, _) in PLACES.items()}
    return {
        field: str(section[PLACES[field][1]])
        for field, section in sections.items()
        if isinstance(section, dict) and section.get(PLACES[field][1])
    }


def _parse(path: Path, text: str) -> dict[str, Any]:
    import yaml  # a fiftieth of a second that only lakectl's users pay

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        # Its text would quote the file, which holds a secret.
        raise _refuse(path, "it is not YAML") from None
    if not isinstance(content, dict):
        raise _refuse(path, "it is not a mapping")
    return content


def _refuse(path: Path, cause: str) -> Misconfigured:
    return Misconfigured(
        f"lakectl's settings in {path} cannot be used: {cause}",
        remedy=f"correct the file, or set {CONFIG_FILE} to another (/dev/null for none)",
    )
