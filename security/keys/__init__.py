"""Private and public keys, always in pairs: one classical half, one post-quantum half.

    pairs      what signs (RoleSigner) and what opens (Opener), and their public halves
    keyfiles   PKCS#8 files in a private folder, perhaps locked with a passphrase
    command    keys that stay in a KMS or HSM, behind a program of the owner's
    sources    `file:`, `env:`, `command:`, `prefect-secret:`: where a KeyReader finds a key

A role's key signs for that role alone. No private half is printed, copied or serialised, and
what a command signs is verified before anybody sees it. All refusals are BadKey.
"""
