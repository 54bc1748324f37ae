"""Prefect blocks: credentials and configuration, and the objects they open. No business verbs."""

from blocks.alerts import Alerts
from blocks.keys import SigningKeys
from blocks.lake import LakeCredentials
from blocks.serving import ServingTarget
from blocks.trust import TrustPolicyRef

__all__ = ["Alerts", "LakeCredentials", "ServingTarget", "SigningKeys", "TrustPolicyRef"]
