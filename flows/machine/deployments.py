"""Brings the server's work pool, blocks and deployments to what prefect.yaml and blocks/ say."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from flows.errors import Misconfigured
from flows.machine.home_files import log_path, open_log, quote_end, write_whole
from flows.machine.process_environment import LAKE_SECRETS, inherit_environment, overlay
from flows.machine.services import WORK_POOL
from flows.settings import PROJECT_FILE, Settings

ASK_SECONDS = 10.0
PAGE = 200
VARIABLE = "headrace_deployed"
POOL = ("work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
BLOCKS = ("block", "register", "-m", "blocks")
DEPLOY = ("deploy", "--all")

# Which deployments are ours, and which of their schedules: {deployment id: [slug, ...]}.
Deployed = dict[str, list[str]]


def deploy_changes(settings: Settings, *, tell: Callable[[str], None]) -> bool:
    """Register and deploy if the server does not hold what the files say; whether it did.

    Raises: Misconfigured with the last line of what Prefect said against it.
    """
    wanted = compute_digest(settings.root)
    with httpx.Client(
        base_url=settings.prefect_api_url, timeout=ASK_SECONDS, trust_env=False
    ) as client:
        if _fetch_digest(client) == wanted:
            return False
        tell("prefect: registering blocks and deployments")
        _register(settings)
        _reconcile(client, settings)
        _remember_digest(client, wanted)
    return True


def compute_digest(root: Path) -> str:
    """Digest of everything a deployment or block type is made from."""
    entries = {e["entrypoint"].partition(":")[0] for e in read_deployments(root)}
    flows = [root / e for e in entries if (root / e).is_file()]
    files = [root / PROJECT_FILE, *sorted(flows), *sorted((root / "blocks").glob("*.py"))]
    summary = hashlib.sha256()
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        summary.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return summary.hexdigest()


def read_deployments(root: Path) -> list[dict[str, Any]]:
    """The deployments of prefect.yaml.

    Raises: Misconfigured if it is not YAML or an entry lacks name or entry point.
    """
    import yaml

    path = root / PROJECT_FILE
    try:
        content = yaml.safe_load(path.read_text()) if path.is_file() else {}
        entries = (content or {}).get("deployments") or []
        return [dict(e, name=e["name"], entrypoint=e["entrypoint"]) for e in entries]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(
            f"{path} does not describe deployments: {' '.join(str(error).split())}",
            remedy="give every entry under deployments a name and an entrypoint",
        ) from error


def _fetch_digest(client: httpx.Client) -> str | None:
    # Kept on the server, so that a new database is seen to hold nothing.
    reply = client.get(f"/variables/name/{VARIABLE}")
    return reply.json()["value"] if reply.is_success else None


def _remember_digest(client: httpx.Client, value: str) -> None:
    body = {"name": VARIABLE, "value": value}
    reply = client.patch(f"/variables/name/{VARIABLE}", json=body)
    if reply.status_code == httpx.codes.NOT_FOUND:
        reply = client.post("/variables/", json=body)
    reply.raise_for_status()


def _register(settings: Settings) -> None:
    log = log_path(settings.home, "deploy")
    start = open_log(log)
    deploy = bool(read_deployments(settings.root))
    code = f"from {__name__} import run_prefect; run_prefect(deploy={deploy})"
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=inherit_environment(withheld=LAKE_SECRETS) | overlay(settings),
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise Misconfigured(
            f"Prefect refused the deployments: {quote_end(log, after=start)}",
            remedy=f"read {log}, correct {PROJECT_FILE}, then run headrace up again",
        )


def _reconcile(client: httpx.Client, settings: Settings) -> None:
    """Delete what an earlier deploy left and the file no longer names; never a user's own."""
    ledger = settings.home / "run" / "deployed.json"
    before, now = _read_ledger(ledger), _find_ours(client, read_deployments(settings.root))
    for identity in before.keys() - now.keys():
        client.delete(f"/automations/owned-by/prefect.deployment.{identity}")
        client.delete(f"/deployments/{identity}")
    for identity in before.keys() & now.keys():
        _drop_schedules(client, identity, set(before[identity]) - set(now[identity]))
    write_whole(ledger, json.dumps(now, indent=2) + "\n")


def _read_ledger(ledger: Path) -> Deployed:
    try:
        return {
            str(k): [str(slug) for slug in v] for k, v in json.loads(ledger.read_text()).items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _find_ours(client: httpx.Client, entries: list[dict[str, Any]]) -> Deployed:
    slugs = {(e["name"], e["entrypoint"]): _slugs_of(e) for e in entries}
    keys = ((d["id"], (d["name"], d["entrypoint"])) for d in _fetch_deployments(client))
    return {identity: slugs[key] for identity, key in keys if key in slugs}


def _slugs_of(entry: dict[str, Any]) -> list[str]:
    schedules = entry.get("schedules") or []
    return [s["slug"] for s in schedules if isinstance(s, dict) and s.get("slug")]


def _fetch_deployments(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        asked = {"limit": PAGE, "offset": len(found)}
        page = client.post("/deployments/filter", json=asked).raise_for_status().json()
        found += page
        if len(page) < PAGE:
            return found


def _drop_schedules(client: httpx.Client, deployment: str, slugs: set[str]) -> None:
    schedules = client.get(f"/deployments/{deployment}/schedules").raise_for_status().json()
    for schedule in schedules:
        if schedule["slug"] in slugs:
            client.delete(f"/deployments/{deployment}/schedules/{schedule['id']}")


def run_prefect(*, deploy: bool) -> None:
    """Create the pool, register the blocks and, where asked, deploy; stop at the first failure.

    Prefect's own commands, in one interpreter, whose start is most of what they cost.
    """
    from prefect.cli import app

    for command in (POOL, BLOCKS, DEPLOY) if deploy else (POOL, BLOCKS):
        sys.argv = ["prefect", "--no-prompt", *command]
        try:
            app()
        except SystemExit as end:
            if end.code:
                raise
