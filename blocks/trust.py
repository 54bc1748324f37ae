"""Which policy decides what may be believed."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from blocks.closed import ClosedBlock

if TYPE_CHECKING:
    from security.policy.trust_policy import TrustPolicy


class TrustPolicyRef(ClosedBlock):
    """Where the signed policy lies, and the root it has to be signed by.

    The two are apart on purpose: who can change the policy's folder must not be able to change
    the root that judges it.

    Example:
        Load the policy, verified:
        ```python
        from blocks import TrustPolicyRef

        reference = TrustPolicyRef.load("BLOCK_NAME")
        policy = reference.get_policy()
        ```
    """

    _block_type_name = "Trust Policy"
    _block_type_slug = "headrace-trust-policy"

    folder: Path = Field(description="Folder with trust.dsse.json and rules.dsse.json.")
    root: Path = Field(description="The pinned public root, root.json.")

    def get_policy(self) -> "TrustPolicy":
        """The policy, after its signatures were verified from the root down.

        Raises: Untrusted if they do not hold.
        """
        from security.policy.trust_policy import TrustPolicy, load_root

        return TrustPolicy.load(self.folder, root=load_root(self.root))
