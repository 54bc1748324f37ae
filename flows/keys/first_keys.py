"""The keys of a pipeline: every role's, and the first policy with the pipeline's own gates."""

from pathlib import Path

import numpy as np
import skops.io

from flows.pipeline import Pipeline
from flows.pipeline.gate_rules import make_gate_rules
from security.policy.key_homes import ROOT, KeyHome, init_keys
from security.policy.trust_policy import RULES, TRUST, load_root

_TRIAL_ROWS = 64


def make_keys(pipeline: Pipeline, folder: Path, *, passphrase: str | None = None) -> KeyHome:
    """Make what is missing; a folder with a root and its policy stays as it is.

    It need not hold every role: where roles live on machines of their own, each has the public
    files and its own folder. Raises: BadKey if the folder holds something else.
    """
    if all((folder / name).is_file() for name in (ROOT, TRUST, RULES)):
        return KeyHome(folder, False, load_root(folder / ROOT))
    return init_keys(
        folder,
        passphrase=passphrase,
        gates={pipeline.name: make_gate_rules(pipeline.gates)},
        skops_types=list_saved_types(pipeline),
    )


def list_saved_types(pipeline: Pipeline) -> tuple[str, ...]:
    """Types that a saved model of this pipeline holds and skops does not trust by itself.

    Found by fitting the estimator of the definition on noise, here, by whoever signs the
    policy: never taken from a model that somebody delivered.
    """
    noise = np.random.default_rng(0)
    x = noise.random((_TRIAL_ROWS, len(pipeline.features)))
    y = np.arange(_TRIAL_ROWS) % 2
    estimator = pipeline.estimator(pipeline.hyperparameters)
    estimator.fit(x, y)
    return tuple(sorted(skops.io.get_untrusted_types(data=skops.io.dumps(estimator))))
