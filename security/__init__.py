"""Signed, sealed and verified models: keys, formats, policy, releases and the audit log.

Every signature is two, Ed25519 and ML-DSA-65; every key is wrapped by X-Wing; payloads are
Cobblestone-256 streams. Nothing chooses an algorithm. docs/formats/ has the exact bytes.

    files     opening, listing and replacing files so that no link, device or half output passes
    formats   canonical JSON, records, envelopes and statements: what bytes mean
    keys      pairs that sign and open, and the sources that they are read from
    policy    who may sign what, what is good enough, and the ceremonies that change it
    release   bundles, release statements, indexes; the order in which they may be believed
    audit     the log of what was signed, its tree, and proofs from it

Each room imports only those above it in this list; `release` and `audit` do not know each other.
Nothing here knows the lake, the flows or the environment: the caller gives bytes, folders, times
and keys. A refusal is Untrusted, CannotDecrypt or BadKey; nothing was loaded or signed then.
`python -m security verify FOLDER --root ROOT` verifies a copied release with nothing else.
"""
