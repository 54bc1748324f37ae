"""Releases: what a model was made from, sealed, signed, named by an index and opened again.

    provenance, statement       what the trainer and the releaser state
    stream, stanzas, bundle     the encrypted payload, and for whom its key is wrapped
    signing                     each role signs its own part, after verifying the others'
    verify                      the nine numbered steps of one release; run_steps drives them
    candidate                   the same for what nobody has released yet
    opening                     verifying and decrypting in one read
    index                       what an environment should run, and how fresh that is
    trusted_set                 the order of trust, from the pinned root to open files
    load                        restricted loading of ONNX and skops, after all of that
    story                       a verified release in plain words

Start with trusted_set: it says what may be believed after what.
"""
