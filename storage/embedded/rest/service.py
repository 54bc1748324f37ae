"""The server itself over REST: health, configuration, who one is, logging in; its upkeep."""

from dataclasses import asdict
from functools import partial

from anyio import to_thread
from pydantic import Field
from starlette.responses import Response

from storage.embedded.http.calls import Body, Call, reply, reply_empty
from storage.embedded.keys.sessions import issue_token
from storage.embedded.upkeep.garbage_collection import DEFAULT_GRACE_S, collect

LAKEFS_VERSION = "1.84.0"
"""The release whose API this server follows."""
# Any other context than this makes lakectl warn, on every command, that it is the wrong client.
VERSION = {"version": LAKEFS_VERSION, "version_context": "lakeFS"}
STORAGE = {
    "blockstore_description": "",
    "blockstore_id": "",
    "blockstore_namespace_ValidityRegex": "^local://",
    "blockstore_namespace_example": "local://example-bucket/",
    "blockstore_type": "local",
    "default_namespace_prefix": "local://",
    "import_support": False,
    "import_validity_regex": "^local://",
    "pre_sign_multipart_upload": False,
    "pre_sign_support": False,
    "pre_sign_support_ui": False,
}
LOGIN = {
    "RBAC": "none",
    "login_cookie_names": ["internal_auth_session"],
    "login_failed_message": "The credentials don't match.",
    "login_url": "",
    "login_url_method": "none",
    "logout_url": "",
}


class LoginBody(Body):
    """The access key, to be exchanged for a token."""

    access_key_id: str
    secret_access_key: str


class Collection(Body):
    """Which garbage may go."""

    grace_s: float = Field(default=DEFAULT_GRACE_S, ge=0, allow_inf_nan=False)
    dry_run: bool = False


async def health(_: Call) -> Response:
    """Alive."""
    return reply_empty()


async def config(_: Call) -> Response:
    """What clients adapt to."""
    return reply(
        {
            "capabilities_config": {},
            "storage_config": STORAGE,
            "storage_config_list": [],
            "ui_config": {},
            "version_config": VERSION,
        }
    )


async def version(_: Call) -> Response:
    """The version block alone."""
    return reply(VERSION)


async def storage_config(_: Call) -> Response:
    """The storage block alone."""
    return reply(STORAGE)


async def setup_state(_: Call) -> Response:
    """There is nothing to set up: the key comes with the process."""
    return reply({"comm_prefs_missing": False, "login_config": LOGIN, "state": "initialized"})


async def current_user(call: Call) -> Response:
    """The key that asks."""
    user = {"creation_date": 0, "email": "", "friendly_name": "", "id": call.user}
    return reply({"user": user})


async def statistics(_: Call) -> Response:
    """What lakectl tells of itself; nothing is collected here."""
    return reply_empty()


async def login(call: Call) -> Response:
    """A token for the key."""
    body = await call.body(LoginBody)
    key = call.service.keys.admit(body.access_key_id, body.secret_access_key)
    token, expires_s = issue_token(key)
    return reply({"token": token, "token_expiration": expires_s})


async def gc(call: Call) -> Response:
    """Collect garbage while everybody goes on."""
    asked = await call.body(Collection)
    work = partial(collect, call.lake, grace_s=asked.grace_s, dry_run=asked.dry_run)
    done = await to_thread.run_sync(work, limiter=call.service.head_changes)
    if not done.dry_run:
        call.service.metrics.count_collection(done.commits, done.objects, done.octets)
    return reply(asdict(done))


OPEN = [
    ("GET", "/healthcheck", health),
    ("GET", "/setup_lakefs", setup_state),
    ("POST", "/auth/login", login),
]
ROUTES = [
    ("GET", "/config", config),
    ("GET", "/config/version", version),
    ("GET", "/config/storage", storage_config),
    ("GET", "/user", current_user),
    ("POST", "/statistics", statistics),
]
OWN_PREFIX = "/_headrace"
"""Where this server answers what is not lakeFS's; only an admin key may ask."""
OWN_ROUTES = [("POST", "/gc", gc)]
