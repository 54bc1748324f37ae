"""Prefect blocks: credentials and configuration, and the objects they open. No business verbs."""

from blocks.alerts import Alerts
from blocks.keys import DecryptionKey, SigningKeys
from blocks.lake import LakeCredentials
from blocks.serving import ServingTarget
from blocks.trust import TrustPolicyRef

__all__ = [
    "Alerts",
    "DecryptionKey",
    "LakeCredentials",
    "ServingTarget",
    "SigningKeys",
    "TrustPolicyRef",
]
