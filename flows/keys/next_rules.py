"""A definition's gates and types as the next signed rules, and the numbers only a root may set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flows.context import Context
from flows.errors import Misconfigured
from flows.keys.first_keys import list_saved_types
from flows.keys.supplied_keys import BroughtKey, publish
from flows.pipeline import Pipeline
from flows.pipeline.gate_rules import make_gate_rules
from security.policy.documents import RoleKeys, Rules, Trust
from security.policy.edition import change_rules, change_trust, load_policy
from security.policy.trust_policy import TrustPolicy


@dataclass(frozen=True)
class TrustNumbers:
    """Numbers of the trust: releasers per environment, signers per role, lowest index."""

    releasers: Mapping[str, int]
    thresholds: Mapping[str, int]
    minimum_index: Mapping[str, int]

    def applied(self, trust: Trust) -> Trust:
        """The trust with these numbers. Raises: Misconfigured for a role that is none."""
        roles = dict(trust.roles)
        for name, number in self.thresholds.items():
            role = next((role for role in roles if role == name), None)
            if role is None:
                raise Misconfigured(
                    f"{name!r} is no role.", remedy=f"Choose from {', '.join(sorted(roles))}."
                )
            roles[role] = RoleKeys(roles[role].keys, number)
        return replace(
            trust,
            roles=roles,
            index_thresholds=_merge_numbers(trust.index_thresholds, self.releasers),
            minimum_index=_merge_numbers(trust.minimum_index, self.minimum_index),
        )


def draft_rules(
    rules: Rules, pipeline: Pipeline, *, require_clean_code: bool | None = None
) -> Rules:
    """The rules with the definition's gates and types; other pipelines' stay."""
    alone = rules.gates.keys() <= {pipeline.name}
    others = () if alone else rules.skops_types
    clean = rules.require_clean_code if require_clean_code is None else require_clean_code
    return replace(
        rules,
        gates={**rules.gates, pipeline.name: make_gate_rules(pipeline.gates)},
        skops_types=tuple(sorted({*others, *list_saved_types(pipeline)})),
        require_clean_code=clean or None,
    )


def sign_rules(
    context: Context,
    numbered: TrustNumbers,
    *,
    require_clean_code: bool | None,
    policy_key: BroughtKey,
    root_key: BroughtKey,
) -> tuple[TrustPolicy, bool]:
    """Sign what differs, each part by its own role, and publish; True if anything was signed.

    Raises: BadKey where a key that is needed is not at hand, Untrusted for numbers that no
    verifier would take; StorageError.
    """
    home = context.keys
    standing = load_policy(home)
    trust = numbered.applied(standing.trust)
    rules = draft_rules(standing.rules, context.pipeline, require_clean_code=require_clean_code)
    if trust != standing.trust:
        change_trust(home, lambda _: trust, root=root_key.signer(home))
    if rules != standing.rules:
        change_rules(home, lambda _: rules, signer=policy_key.signer(home, "policy"))
    publish(context)
    policy = load_policy(home)
    return policy, policy.digests != standing.digests


def _merge_numbers(
    standing: Mapping[str, int] | None, given: Mapping[str, int]
) -> Mapping[str, int] | None:
    return {**(standing or {}), **given} or None
