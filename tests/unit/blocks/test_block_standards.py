import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

import blocks
from blocks.alerts import Alerts
from blocks.closed import ClosedBlock
from blocks.keys import DecryptionKey, SigningKeys
from blocks.lake import LakeCredentials
from blocks.serving import ServingTarget
from blocks.trust import TrustPolicyRef
from security.errors import BadKey, Untrusted
from security.policy.key_homes import init_keys, load_signer

CLASSES = [getattr(blocks, name) for name in blocks.__all__]
EXAMPLES: list[Block] = [
    Alerts(webhook_url=SecretStr("https://hooks.example/T0/very-secret")),
    LakeCredentials(
        endpoint="http://127.0.0.1:8470",
        access_key_id="AKIA",
        secret_access_key=SecretStr("very-secret"),
    ),
    ServingTarget(environment="staging", url="http://127.0.0.1:8480"),
    SigningKeys(folder=Path("keys"), role="trainer", passphrase=SecretStr("very-secret")),
    DecryptionKey(source="file:keys", passphrase=SecretStr("very-secret")),
    TrustPolicyRef(folder=Path("keys"), root=Path("root.json")),
]


@pytest.mark.parametrize("block", CLASSES)
class TestBlockStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        # Prefect wants a logo at an address of the internet; the page must not call out.
        assert block._logo_url is None


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda b: type(b).__name__)
def test_a_block_refuses_what_it_does_not_know(block: Block) -> None:
    fields = block.model_dump(exclude={"block_type_slug"})
    with pytest.raises(ValidationError, match="surprise"):
        type(block)(**fields, surprise=1)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda b: type(b).__name__)
def test_no_secret_shows_unless_it_is_asked_for(block: Block) -> None:
    assert "very-secret" not in repr(block) + str(block) + block.model_dump_json()


def test_every_block_is_closed_and_can_be_imported_from_the_package() -> None:
    assert {type(example) for example in EXAMPLES} == set(CLASSES)
    assert all(issubclass(cls, ClosedBlock) for cls in CLASSES)


def test_slugs_are_distinct_and_ours() -> None:
    slugs = {cls.get_block_type_slug() for cls in CLASSES}
    assert len(slugs) == len(CLASSES)
    assert all(slug.startswith("headrace-") for slug in slugs)


def test_lake_credentials_open_the_lake_they_name() -> None:
    access = (
        LakeCredentials(
            endpoint="http://127.0.0.1:8470", access_key_id="A", secret_access_key=SecretStr("s")
        )
        .get_client()
        .access
    )
    assert (access.endpoint, access.access_key_id, access.secret_access_key) == (
        "http://127.0.0.1:8470",
        "A",
        "s",
    )


def test_signing_keys_sign_as_their_role(tmp_path: Path) -> None:
    home = init_keys(tmp_path / "keys", passphrase="correct horse battery")
    keys = SigningKeys(
        folder=home.folder, role="trainer", passphrase=SecretStr("correct horse battery")
    )
    direct = load_signer(home.folder, "trainer", passphrase="correct horse battery")
    assert keys.get_signer().public == direct.public
    with pytest.raises(BadKey):
        SigningKeys(folder=home.folder, role="trainer").get_signer()


def test_signing_keys_are_read_only_when_asked_for(tmp_path: Path) -> None:
    keys = SigningKeys(folder=tmp_path / "nowhere", role="releaser")
    with pytest.raises(BadKey):
        keys.get_signer()


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValidationError):
        SigningKeys(folder=Path("keys"), role="admin")  # type: ignore[arg-type]


def test_a_policy_is_verified_against_the_pinned_root(tmp_path: Path) -> None:
    ours, theirs = (init_keys(tmp_path / name).folder for name in ("ours", "theirs"))
    policy = TrustPolicyRef(folder=ours, root=ours / "root.json").get_policy()
    assert policy.trust.version == 1
    with pytest.raises(Untrusted):
        TrustPolicyRef(folder=theirs, root=ours / "root.json").get_policy()


def test_a_serving_target_asks_its_own_address() -> None:
    with ServingTarget(url="http://127.0.0.1:8480").get_client() as client:
        assert client.build_request("GET", "/v2/health/ready").url == httpx.URL(
            "http://127.0.0.1:8480/v2/health/ready"
        )


@pytest.mark.parametrize("name", ["", "../production", "Production", "a/b"])
def test_an_environment_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ServingTarget(environment=name, url="http://127.0.0.1:8480")


def test_without_a_webhook_nobody_is_told() -> None:
    assert not Alerts().notify("drift")


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a listening webhook, and what it was sent."""
    taken: list[tuple[str, bytes]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, body))
            self.send_response(200 if self.path == "/T0/very-secret" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


def test_an_alert_reaches_exactly_the_webhook(
    webhook: tuple[str, list[tuple[str, bytes]]],
) -> None:
    url, taken = webhook
    alerts = Alerts(webhook_url=SecretStr(f"{url}/T0/very-secret"))
    assert alerts.notify("drift", subject="monitor")
    assert [(path, json.loads(body)) for path, body in taken] == [
        ("/T0/very-secret", {"text": "monitor: drift"})
    ]


def test_a_refused_alert_is_an_error(webhook: tuple[str, list[tuple[str, bytes]]]) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        Alerts(webhook_url=SecretStr(f"{webhook[0]}/gone")).notify("drift")


def test_keys_come_from_one_place_only() -> None:
    with pytest.raises(ValidationError, match="either source or folder"):
        SigningKeys(role="trainer")
    with pytest.raises(ValidationError, match="either source or folder"):
        SigningKeys(source="env:KEY", folder=Path("keys"), role="trainer")
