"""The environment variables every process of Headrace runs with."""

import os
import sysconfig
from collections.abc import Iterable

from flows.settings import Settings
from flows.settings.lakectl import VARIABLES

# Every flow run is a new interpreter: without bytecode it would compile 3,000 modules each time.
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
LAKE_SECRETS = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
LAKECTL_SECRETS = (VARIABLES["lake_access_key_id"], VARIABLES["lake_secret_access_key"])


def overlay(settings: Settings) -> dict[str, str]:
    """What Headrace sets on top of the user's environment; it holds no secret."""
    return _where(settings) | _prefect_client(settings) | _prefect_server(settings)


def environment(settings: Settings) -> dict[str, str]:
    """The whole environment for a child of this installation."""
    return inherit_environment() | overlay(settings)


def inherit_environment(*, withheld: Iterable[str] = ()) -> dict[str, str]:
    """The user's environment without `withheld`, this interpreter's programs first on PATH."""
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join((scripts, os.environ.get("PATH", os.defpath)))
    kept = {
        name: value for name, value in os.environ.items() if name not in {*withheld, _NO_BYTECODE}
    }
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def _where(settings: Settings) -> dict[str, str]:
    found = {
        "HEADRACE_ROOT": str(settings.root),
        "HEADRACE_HOME": str(settings.home),
        "HEADRACE_LAKE_PORT": str(settings.lake_port),
        "HEADRACE_PREFECT_PORT": str(settings.prefect_port),
        "HEADRACE_SERVICE_PORT": str(settings.service_port),
        "HEADRACE_PIPELINE": settings.pipeline,
        "HEADRACE_ENVIRONMENT": settings.environment,
    }
    return found | ({"LAKEFS_ENDPOINT": settings.lake_endpoint} if settings.lake_endpoint else {})


def _prefect_client(settings: Settings) -> dict[str, str]:
    return {
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_PROFILES_PATH": str(settings.home / "prefect" / "profiles.toml"),
        # The default serializer is pickle, which nothing here may read.
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        # A missing server must be an error, not a silent temporary one.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "DO_NOT_TRACK": "1",
    }


def _prefect_server(settings: Settings) -> dict[str, str]:
    return {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A run that meets a busy slot would ask again only after 30 s.
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
        # The newer pages call an analytics host even with analytics off; the older ones do not.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.home / "prefect" / "ui"),
    }
