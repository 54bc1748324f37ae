"""What one installation of Headrace needs to know about its surroundings.

Only flows and the CLI read the environment, and only here; below them everything takes arguments.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import Misconfigured
from flows.settings import lakectl

LOOPBACK = "127.0.0.1"
PROJECT_FILE = "prefect.yaml"


def find_root(start: Path | None = None) -> Path | None:
    """The nearest folder from `start` (the working directory) upwards that is a project."""
    here = (start or Path.cwd()).absolute()
    return next((p for p in (here, *here.parents) if (p / PROJECT_FILE).is_file()), None)


def _default_root() -> Path:
    root = find_root()
    if root is None and "HEADRACE_HOME" in os.environ:
        return Path(os.environ["HEADRACE_HOME"]).expanduser().absolute().parent
    if root is None:
        raise Misconfigured(
            f"no {PROJECT_FILE} in {Path.cwd()} or any folder above it",
            remedy="run inside the project, or set HEADRACE_ROOT to its folder",
        )
    return root


def _default_home(known: Mapping[str, Any]) -> Path:
    return known["root"] / ".headrace" if "root" in known else Path(".headrace")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


Folder = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Unset = BeforeValidator(_blank_is_unset)


# lakeFS's variables keep their own names, so that its tools and ours agree.
ENDPOINT, KEY_ID, SECRET = "LAKEFS_ENDPOINT", "LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"
NAMES = {"lake_endpoint": ENDPOINT, "lake_access_key_id": KEY_ID, "lake_secret_access_key": SECRET}
Address = Annotated[str, Field(pattern=r"^https?://[^/]+/?$")]


@dataclass(frozen=True)
class LakeAccess:
    """Where the lake is and the key that opens it."""

    endpoint: str
    access_key_id: str
    secret_access_key: SecretStr


class Settings(BaseSettings):
    """Folders, ports and addresses; each field is HEADRACE_<FIELD> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", frozen=True, extra="forbid", populate_by_name=True
    )

    root: Folder = Field(default_factory=_default_root)
    home: Folder = Field(default_factory=_default_home)
    lake_endpoint: Annotated[Address | None, Unset] = Field(default=None, validation_alias=ENDPOINT)
    lake_access_key_id: Annotated[str | None, Unset] = Field(default=None, validation_alias=KEY_ID)
    lake_secret_access_key: Annotated[SecretStr | None, Unset] = Field(
        default=None, validation_alias=SECRET
    )
    lake_port: Port = 8470
    prefect_port: Port = 4200
    service_port: Port = 8480
    worker_limit: Annotated[int, Field(ge=1)] = 4
    pipeline: str = "examples.flights.pipeline:pipeline"
    environment: str = "production"

    @classmethod
    def load(cls) -> Self:
        """The settings of this process's environment.

        A lake that only lakectl knows is taken from there.
        Raises: Misconfigured naming the variable that does not hold a usable value.
        """
        try:
            settings = cls()
            return cls(**settings._ask_lakectl()) if settings._may_ask_lakectl else settings
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            variable = NAMES.get(field, field if field in NAMES.values() else f"HEADRACE_{field}")
            raise Misconfigured(
                f"{variable.upper()} is {first['input']!r}: {first['msg'].lower()}",
                remedy=f"correct {variable.upper()} or unset it",
            ) from None

    @property
    def _may_ask_lakectl(self) -> bool:
        """Whether a lake of lakectl's may be meant: variables of ours say nothing of a key, and
        this installation has no lake of its own, unless lakectl's variables ask for another.
        """
        given = self.lake_access_key_id or self.lake_secret_access_key
        has_own = self.lake_is_embedded and self.lake_credentials_file.exists()
        return not given and (not has_own or lakectl.is_set(os.environ))

    def _ask_lakectl(self) -> dict[str, Any]:
        found = lakectl.read_config()
        # A key goes to its own lake and to no other.
        fits = found and (self.lake_endpoint or found["lake_endpoint"]).rstrip("/")
        return dict(found) if found and fits == found["lake_endpoint"] else {}

    @property
    def lake_is_embedded(self) -> bool:
        """Whether `up` runs the lake itself."""
        return self.lake_endpoint is None

    @property
    def lake_url(self) -> str:
        """The lake's address, without a path."""
        return (self.lake_endpoint or f"http://{LOOPBACK}:{self.lake_port}").rstrip("/")

    @property
    def prefect_url(self) -> str:
        """The Prefect server's address; its pages are here, its API under /api."""
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def prefect_api_url(self) -> str:
        """What PREFECT_API_URL should say."""
        return f"{self.prefect_url}/api"

    @property
    def service_url(self) -> str:
        """The prediction service's address."""
        return f"http://{LOOPBACK}:{self.service_port}"

    @property
    def keys(self) -> Path:
        """The folder of the roles' key files."""
        return self.home / "keys"

    @property
    def lake_credentials_file(self) -> Path:
        """Where the first `up` leaves the embedded lake's key, readable by its owner alone."""
        return self.home / "lake-credentials.json"

    def lake_access(self) -> LakeAccess:
        """Endpoint and key of the lake, from the environment or from the first `up`'s file.

        Raises: Misconfigured when there is no key, half a key, or one that others can read.
        """
        key_id, secret = self.lake_access_key_id, self.lake_secret_access_key
        if key_id and secret:
            return LakeAccess(self.lake_url, key_id, secret)
        if key_id or secret or not self.lake_is_embedded:
            missing = SECRET if key_id else KEY_ID
            raise Misconfigured(
                f"the key of the lake at {self.lake_url} is incomplete: {missing} is not set",
                remedy=f"set {KEY_ID} and {SECRET} together",
            )
        return _read_key(self.lake_credentials_file, endpoint=self.lake_url)


def _read_key(path: Path, *, endpoint: str) -> LakeAccess:
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except FileNotFoundError:
        raise Misconfigured(
            f"the lake has no key yet: {path} does not exist",
            remedy="run headrace up, or set LAKEFS_ENDPOINT and its key",
        ) from None
    if mode & 0o077:
        raise Misconfigured(f"{path} can be read by others", remedy=f"chmod 600 {path}")
    try:
        key = json.loads(text)
        return LakeAccess(endpoint, key["access_key_id"], SecretStr(key["secret_access_key"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{path} does not hold a lake key ({error!r})",
            remedy="restore it from a backup; the lake knows only the key it was started with",
        ) from error
