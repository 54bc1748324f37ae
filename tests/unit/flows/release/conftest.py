"""What the releasers' tests begin with: releases, and a second releaser where two must sign."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flows.context import Context
    from storage.registry import ReleaseRef
    from tests.release_site import Site


@dataclass(frozen=True)
class Releasers:
    """Ana and Ben, each with a releaser's key of their own, and a release nobody promoted yet."""

    ana: "Site"
    ben: "Site"
    release: "ReleaseRef"

    def contexts(self) -> tuple["Context", "Context"]:
        return self.ana.context("ana"), self.ben.context("ben")


@pytest.fixture
def ref(site: "Site") -> "ReleaseRef":
    """A registered release."""
    return site.register(site.lake.pin("flights"))


@pytest.fixture
def releasers(site: "Site", tmp_path: Path) -> Releasers:
    """Production needs two releasers."""
    from security.keys.keyfiles import replace_private
    from security.keys.pairs import Signer
    from security.policy.edition import change_trust
    from security.policy.key_homes import load_signer
    from security.policy.role_keys import enrol

    root, second = load_signer(site.keys, "root"), Signer.generate("releaser")
    enrol(site.keys, second.public, "releaser", root=root)
    needed = {"production": 2}
    change_trust(site.keys, lambda trust: replace(trust, index_thresholds=needed), root=root)
    bens = Path(shutil.copytree(site.keys, tmp_path / "ben" / "keys"))
    replace_private(bens / "releaser", second.private_halves(), None)
    ref = site.register(site.lake.pin("flights"))
    return Releasers(site, replace(site, keys=bens), ref)
