"""The policy: from one pinned public root to who may sign what, and what is good enough.

    documents      Trust, signed by the root, and Rules, signed by the policy role
    trust_policy   both of them verified: the object that every verification asks
    gates          thresholds, what was measured, and whether that is enough
    floor          what a client remembers so that time cannot be turned back on it
    key_homes      the folder of an installation's keys, and how the first one is made
    edition        the next edition of a policy, written at once or not at all
    ceremony       pairs that retire, are revoked or enrolled
    succession     the same for the root itself, and for those who decrypt

There is no trust on first use. A policy counts only after its signatures held, each time it is
read; a revoked pair is believed only for the payloads that the root listed.
"""
