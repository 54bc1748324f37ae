from pathlib import Path

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
