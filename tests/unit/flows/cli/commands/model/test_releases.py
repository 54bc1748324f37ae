from flows.cli.commands.model import releases
from flows.release.catalog import ListedRelease
from storage.registry import ReleaseRef

REF = ReleaseRef("flights", 7)
UNSIGNED = ListedRelease(REF, None, "", "no valid signature", {"production": 3})


def test_a_version_without_a_valid_signature_is_listed_with_the_reason() -> None:
    row = releases._row(UNSIGNED)
    assert row == (
        REF,
        None,
        "production (index 3)",
        None,
        None,
        "NOBODY",
        "no valid signature",
    )
    document = releases._document(UNSIGNED)
    assert (document["problem"], document["signed_by"]) == ("no valid signature", None)
    assert document["runs_in"] == {"production": 3}
