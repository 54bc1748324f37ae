"""A key program as an owner would write it, over PEM files; `how` makes it misbehave."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from security.keys.keyfiles import read_recipient_folder, read_signer_folder

_SPAWN = "import subprocess, sys; subprocess.Popen(['sleep', '60']); import time; time.sleep(60)"


def answer(folder: Path, how: str, asked: dict[str, Any]) -> dict[str, str]:
    role, operation = asked["role"], asked["operation"]
    if role == "serving":
        recipient = read_recipient_folder(folder / role)
        if operation == "public":
            return shown(mlkem768=recipient.public.mlkem768, x25519=recipient.public.x25519)
        wrapped, info = (base64.b64decode(asked[name]) for name in ("wrapped", "info"))
        return shown(secret=recipient.unwrap(wrapped, info=info))
    signer = read_signer_folder(folder / role, role)
    if operation == "public":
        told = shown(ed25519=signer.public.ed25519, mldsa65=signer.public.mldsa65)
        return {**told, "mldsa65Signs": "mu" if how == "mu" else "message"}
    halves = signer.private_halves()
    if operation == "sign_mu":
        return shown(signature=halves["mldsa65"].sign_mu(base64.b64decode(asked["mu"])))
    if how == "mu" and asked["algorithm"] == "ml-dsa-65":
        raise SystemExit("this KMS signs no messages")
    message = base64.b64decode(asked["message"])
    if how == f"forges-{asked['algorithm']}":
        message += b"!"
    half = halves[asked["algorithm"].replace("-", "")]
    return shown(signature=half.sign(message))


def shown(**fields: bytes) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in fields.items()}


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "well"
    request = json.load(sys.stdin)
    if how == "hangs":
        # A grandchild that holds the pipe open must not be waited for either.
        exec(_SPAWN)
    if how == "fails":
        sys.exit("-----BEGIN PRIVATE KEY----- leaked")
    if how == "babbles":
        print("not json")
        return
    if how == "floods":
        print(" " * 1_000_000, "{}")
        return
    print(json.dumps(answer(folder, how, request)))


if __name__ == "__main__":
    main()
