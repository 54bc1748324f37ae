"""The audit log: what was signed, published, revoked and refused, in an order nobody can change.

    log      entries, one canonical line each; signed checkpoints; whether a log only grew
    merkle   the tree of RFC 6962 over the lines, and its proofs
    proof    one file that shows a release's entries to somebody without the lake

Whoever kept a checkpoint, or the peaks of an earlier day, notices a log that was cut or rewritten.
"""
