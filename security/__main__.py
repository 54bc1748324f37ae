"""Verification offline, with nothing but the file or folder, the policy and the public root.

    python -m security verify FOLDER --root ROOT         a copied release
    python -m security audit-proof FILE --root ROOT      that the audit log tells of a release

Exit codes: 0 verified, 1 refused, 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from security.audit.proof import MAX_PROOF_BYTES, verify_proof
from security.errors import SecurityError
from security.files import read_regular
from security.formats.strict_json import to_json
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.description import describe_release
from security.release.verify import PassedStep, begin_verification, run_steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result goes to stdout, a refusal to stderr."""
    given = _parser().parse_args(arguments)
    try:
        verified = given.run(given)
    except SecurityError as error:
        if given.json:
            print(json.dumps({"verified": False, "problem": str(error), "code": error.code}))
        print(f"refused: {error}", file=sys.stderr)
        if error.remedy:
            print(f"  hint: {error.remedy}", file=sys.stderr)
        return 1
    print(json.dumps({"verified": True, **verified}) if given.json else given.told(verified))
    return 0


def _verify(given: argparse.Namespace) -> dict[str, object]:
    policy = TrustPolicy.load(given.policy or given.folder, root=load_root(given.root))
    steps = begin_verification(given.folder, policy=policy, name=given.name, version=given.version)
    return describe_release(run_steps(steps, on_passed=None if given.json else _print_step), policy)


def _print_step(step: PassedStep) -> None:
    print(f"{step.number}. {step.title}: {step.finding}")


def _prove(given: argparse.Namespace) -> dict[str, object]:
    data = read_regular(given.file, max_bytes=MAX_PROOF_BYTES)
    proven = verify_proof(data, root=load_root(given.root))
    entries = [to_json(entry) for entry in proven.entries]
    return {
        "subject": proven.subject,
        "entries": entries,
        "checkpoint": to_json(proven.checkpoint),
    }


def _describe_proof(proven: dict[str, Any]) -> str:
    lines = [
        "entry {number}: {at} {kind} by {actor}, digest {digest}".format_map({"digest": "-", **e})
        for e in proven["entries"]
    ]
    end = (
        "proved: {subject} is in the log of {checkpoint[size]} entries, as of {checkpoint[created]}"
    )
    return "\n".join([*lines, end.format_map(proven)])


def _describe_release(verified: dict[str, Any]) -> str:
    end = "verified: {model} version {version}, release {digest}".format_map(verified)
    return "\n".join(["", *verified["story"], "", end])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m security",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command = parser.add_subparsers(required=True, metavar="verify | audit-proof")
    verify = command.add_parser("verify", help="verify a release folder")
    verify.add_argument("folder", type=Path, help="the copied release")
    verify.add_argument("--root", type=Path, required=True, help="the pinned root.json")
    verify.add_argument("--policy", type=Path, help="where the policy is, if not in the folder")
    verify.add_argument("--name", help="the model that it must be")
    verify.add_argument("--version", type=int, help="the version that it must be")
    verify.set_defaults(run=_verify, told=_describe_release)
    prove = command.add_parser("audit-proof", help="verify what `headrace audit prove` wrote")
    prove.add_argument("file", type=Path, help="the proof")
    prove.add_argument("--root", type=Path, required=True, help="the pinned root.json")
    prove.set_defaults(run=_prove, told=_describe_proof)
    for one in (verify, prove):
        one.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
