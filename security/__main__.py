"""`python -m security verify FOLDER --root ROOTFILE`: verify a copied release, offline.

Needs nothing but the folder, the policy and the public root. Exit codes: 0 verified, 1 refused,
2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from security.errors import SecurityError
from security.policy import TrustPolicy, load_root
from security.verify import Step, verification


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result goes to stdout, a refusal to stderr."""
    given = _parser().parse_args(arguments)
    try:
        verified = _verify(given)
    except SecurityError as error:
        print(f"refused: {error}", file=sys.stderr)
        if error.remedy:
            print(f"  hint: {error.remedy}", file=sys.stderr)
        return 1
    print(json.dumps({"verified": True, **verified}) if given.json else _told(verified))
    return 0


def _verify(given: argparse.Namespace) -> dict[str, object]:
    policy = TrustPolicy.load(given.policy or given.folder, root=load_root(given.root))
    steps = verification(given.folder, policy=policy, name=given.name, version=given.version)
    passed: list[Step] = []
    while True:
        try:
            passed.append(next(steps))
        except StopIteration as done:
            release = done.value.release
            break
        if not given.json:
            print(f"{passed[-1].number}. {passed[-1].title}: {passed[-1].finding}")
    return {"model": release.model, "version": release.version, "digest": release.digest}


def _told(verified: dict[str, object]) -> str:
    return "verified: {model} version {version}, release {digest}".format_map(verified)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m security", description=__doc__)
    command = parser.add_subparsers(required=True, metavar="verify")
    verify = command.add_parser("verify", help="verify a release folder")
    verify.add_argument("folder", type=Path, help="the copied release")
    verify.add_argument("--root", type=Path, required=True, help="the pinned root.json")
    verify.add_argument("--policy", type=Path, help="where the policy is, if not in the folder")
    verify.add_argument("--name", help="the model that it must be")
    verify.add_argument("--version", type=int, help="the version that it must be")
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
