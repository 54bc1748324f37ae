"""Where everything is in the releases repository, and what each run in it is called.

models/<model>/<version>/...                   release statement, evidence, sealed payload, card
candidates/<id>/...                            what was trained; the evidence once it was judged
environments/<name>/index/<n>.json             numbered signed indexes: the deployment history
environments/<name>/index/<n>.timestamp.json   that an index was the newest, signed again and again
environments/<name>/proposals/<n>.json         an index that waits for more signatures
policy/<document>                              the trust policy the releases are checked against
audit/head.json  audit/entries/<k>.jsonl  audit/checkpoint.dsse.json    the audit log
metadata/<stage>/<run id>.json                 records of runs (storage/runs/records.py)

An index, a timestamp, a proposal and a release have a subject too, which the audit log names
them by: the path without `.json`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from storage.errors import NotFound, Refused
from storage.runs.records import run_id

MODELS, CANDIDATES, ENVIRONMENTS = "models/", "candidates/", "environments/"
AUDIT_HEAD = "audit/head.json"
AUDIT_ENTRIES = "audit/entries/"
AUDIT_CHECKPOINT = "audit/checkpoint.dsse.json"

# The stages whose runs write here.
CANDIDATE, GATE, REGISTER, SERVE, PROPOSE = "candidate", "gate", "register", "serve", "propose"
RECIPIENTS, TIMESTAMP, POLICY = "recipients", "timestamp", "policy"
AUDIT, CHECKPOINT = "audit", "checkpoint"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RELEASE = re.compile(rf"(?P<model>{_NAME.pattern})/(?P<version>[1-9][0-9]{{0,17}})")
_NUMBERED = re.compile(r"(?P<number>[1-9][0-9]{0,17})\.json")


@dataclass(frozen=True, slots=True, order=True)
class ReleaseRef:
    """A registered version of a model; written `flights/3`."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"

    @property
    def path(self) -> str:
        """The release's folder, and its subject in the audit log. Raises: Refused."""
        return f"{model_folder(self.model)}{self.version}"

    @classmethod
    def parse(cls, text: str) -> "ReleaseRef":
        """The inverse of `str(ref)`. Raises: NotFound for anything else."""
        found = _RELEASE.fullmatch(text)
        if found is None:
            raise NotFound(
                f"{text!r} does not name a release.",
                remedy="Write MODEL/VERSION, as `headrace model list` prints it.",
            )
        return cls(found["model"], int(found["version"]))


def model_folder(model: str) -> str:
    """The folder of a model's versions, with the slash. Raises: Refused."""
    return f"{MODELS}{_require_name(model)}/"


def candidate_folder(candidate: str) -> str:
    """The folder of a candidate. Raises: Refused."""
    return f"{CANDIDATES}{_require_name(candidate)}"


def index_folder(environment: str) -> str:
    """The folder of an environment's indexes and timestamps, with the slash. Raises: Refused."""
    return f"{ENVIRONMENTS}{_require_name(environment)}/index/"


def index_subject(environment: str, number: int) -> str:
    """What the audit log calls an index. Raises: Refused."""
    return f"{index_folder(environment)}{number}"


def index_path(environment: str, number: int) -> str:
    """The file of an index. Raises: Refused."""
    return f"{index_subject(environment, number)}.json"


def timestamp_subject(environment: str, number: int) -> str:
    """What the audit log calls the timestamp of an index. Raises: Refused."""
    return f"{index_subject(environment, number)}.timestamp"


def timestamp_path(environment: str, number: int) -> str:
    """The file of an index's newest timestamp. Raises: Refused."""
    return f"{timestamp_subject(environment, number)}.json"


def proposal_folder(environment: str) -> str:
    """The folder of an environment's proposals, with the slash. Raises: Refused."""
    return f"{ENVIRONMENTS}{_require_name(environment)}/proposals/"


def proposal_subject(environment: str, number: int) -> str:
    """What the audit log calls a proposal. Raises: Refused."""
    return f"{proposal_folder(environment)}{number}"


def proposal_path(environment: str, number: int) -> str:
    """The file of a proposal. Raises: Refused."""
    return f"{proposal_subject(environment, number)}.json"


def policy_path(document: str) -> str:
    """The published copy of one of the policy's documents, and its subject. Raises: Refused."""
    return f"policy/{_require_name(document)}"


def audit_segment(number: int) -> str:
    """The file of one segment of the audit log."""
    return f"{AUDIT_ENTRIES}{number:08d}.jsonl"


def parse_numbers(folder: str, paths: Iterable[str]) -> list[int]:
    """The numbers of the indexes or proposals that lie in their folder, the least first.

    Timestamps, and whatever else lies there, have none.
    """
    names = (path.removeprefix(folder) for path in paths if path.startswith(folder))
    return sorted(int(found["number"]) for n in names if (found := _NUMBERED.fullmatch(n)))


def gate_run(candidate: str) -> str:
    """The run id of the candidate's one judgement."""
    return run_id(GATE, candidate)


def register_run(candidate: str) -> str:
    """The run id of the candidate's one registration."""
    return run_id(REGISTER, candidate)


def reseal_run(ref: ReleaseRef, recipient_id: str) -> str:
    """The run id of a registration of the release anew, without one recipient."""
    return run_id(REGISTER, "without", ref.path, recipient_id)


def add_recipient_run(ref: ReleaseRef, recipient_id: str, stanzas_sha256: str) -> str:
    """The run id of one recipient more for a release whose stanzas have this digest."""
    return run_id(RECIPIENTS, ref.path, recipient_id, stanzas_sha256)


def index_run(environment: str, request_id: str) -> str:
    """The run id of the index that a request leads to."""
    return run_id(SERVE, environment, request_id)


def propose_run(environment: str, request_id: str, last: int) -> str:
    """The run id of the proposal that a request leads to, if `last` is the newest before it."""
    return run_id(PROPOSE, environment, request_id, str(last))


def approve_run(environment: str, number: int, key_id: str, signatures: int) -> str:
    """The run id of one releaser's signature on a proposal that has some already."""
    return run_id(PROPOSE, proposal_path(environment, number), key_id, str(signatures))


def timestamp_run(environment: str, index_sha256: str, stamp_sha256: str, hour: str) -> str:
    """The run id of the timestamp that follows the one with this digest, in this hour."""
    return run_id(TIMESTAMP, environment, index_sha256, stamp_sha256, hour)


def policy_run(trust_sha256: str, rules_sha256: str) -> str:
    """The run id of the publication of a policy."""
    return run_id(POLICY, trust_sha256, rules_sha256)


def checkpoint_run(size: int, root: str) -> str:
    """The run id of the checkpoint for a log of this size and root."""
    return run_id(CHECKPOINT, str(size), root)


def audit_run(event: str) -> str:
    """The run id of an event that is told in a commit of its own; `event` is its digest."""
    return run_id(AUDIT, event)


def _require_name(name: str) -> str:
    """One plain part of a path: never a slash, a blank, or what leads upwards."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name[:140]!r} cannot be a name in the releases repository.",
            remedy="Use letters, digits, dots, dashes and underscores, at most 128.",
            code="lake.name_refused",
        )
    return name
