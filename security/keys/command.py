"""Keys that never come here: a program of the owner's signs or decrypts, in front of a KMS or HSM.

One start per operation. The request is one JSON object on stdin, the answer one on stdout:

    {"version": 1, "role": ROLE, "operation": "public"}    {"ed25519", "mldsa65", "mldsa65Signs"}
    … "operation": "sign", "algorithm": "ed25519", "message"    {"signature"}
    … "operation": "sign", "algorithm": "ml-dsa-65", "message"    {"signature"}
    … "operation": "sign_mu", "algorithm": "ml-dsa-65", "mu"    {"signature"}
    … "operation": "public" to a recipient    {"mlkem768", "x25519"}
    … "operation": "unwrap", "wrapped", "info"    {"secret"}

Bytes are base64. What comes back is believed only after it verified under the public pair.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey, MLDSAMuHasher

from security.errors import BadKey, CannotDecrypt, SecurityError
from security.formats import canonical
from security.formats.envelope import decode64, encode64
from security.keys.pairs import PublicPair, PublicRecipient, Role, refuse_other_role

TIME_LIMIT_S = 60.0
MAX_ANSWER_BYTES = 64 * 2**10
_VERSION = 1


@dataclass(frozen=True)
class Program:
    """A command line, without a shell, and how long it may take."""

    arguments: tuple[str, ...]
    time_limit_s: float = TIME_LIMIT_S

    @classmethod
    def parse(cls, text: str, *, time_limit_s: float = TIME_LIMIT_S) -> "Program":
        """Split as a shell would split it, expanding nothing. Raises: BadKey."""
        try:
            arguments = tuple(shlex.split(text))
        except ValueError as error:
            raise BadKey(f"the key command cannot be read: {error}") from None
        if not arguments:
            raise BadKey("the key source names no command", remedy="write command:PROGRAM ARGS")
        return cls(arguments, time_limit_s)

    def ask(self, holder: str, operation: str, **details: str) -> Mapping[str, Any]:
        """The program's answer to one request.

        Raises: BadKey. What the program wrote to stderr is never shown: it may hold a secret.
        """
        request = {"version": _VERSION, "role": holder, "operation": operation, **details}
        answer, code = self._run(canonical.encode(request))
        if code != 0:
            raise self._error(f"ended with {code} at {operation!r}")
        try:
            return canonical.parse(answer, max_bytes=MAX_ANSWER_BYTES)
        except SecurityError as error:
            raise self._error(f"did not answer {operation!r} with JSON: {error}") from None

    def _run(self, request: bytes) -> tuple[bytes, int]:
        try:
            process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise self._error(f"does not start: {error.strerror}") from None
        try:
            answer, _ = process.communicate(request, timeout=self.time_limit_s)
        except subprocess.TimeoutExpired:
            # Its children too: one that keeps the pipe open would be waited for.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise self._error(f"took longer than {self.time_limit_s:g} s") from None
        finally:
            # A grandchild in a session of its own may hold the other ends for as long as it likes.
            for pipe in filter(None, (process.stdin, process.stdout)):
                with contextlib.suppress(OSError):
                    pipe.close()
        return answer, process.returncode

    def _error(self, what: str) -> BadKey:
        return BadKey(
            f"the key command {self.arguments[0]} {what}",
            remedy="run it by hand with the same request; docs/formats/keys.md has the protocol",
            code="trust.key_command",
        )


class CommandSigner:
    """A role's pair behind a program; each signature is verified before anybody sees it."""

    __slots__ = ("_by_mu", "_program", "public", "role")

    def __init__(self, role: Role, program: Program) -> None:
        """Raises: BadKey if the program does not tell a usable public pair."""
        answer = program.ask(role, "public")
        self.role = role
        self.public = PublicPair(_read_bytes(answer, "ed25519"), _read_bytes(answer, "mldsa65"))
        self._program = program
        self._by_mu = _signs_mu(answer)

    def sign(self, message: bytes) -> tuple[bytes, bytes]:
        """The two halves over `message`; the post-quantum one over its mu where a KMS wants that.

        Raises: BadKey if the program fails, or signs with another key.
        """
        classical = self._ask("sign", "ed25519", message=encode64(message))
        if self._by_mu:
            quantum = self._ask("sign_mu", "ml-dsa-65", mu=encode64(self._hash_to_mu(message)))
        else:
            quantum = self._ask("sign", "ml-dsa-65", message=encode64(message))
        if not self.public.verifies_ed25519(classical, message):
            raise BadKey(
                "the key command's Ed25519 signature does not verify under its own key",
                code="trust.key_command",
            )
        if not self.public.verifies_mldsa65(quantum, message):
            raise BadKey(
                "the key command's ML-DSA-65 signature does not verify under its own key",
                code="trust.key_command",
            )
        return classical, quantum

    def require(self, role: Role) -> "CommandSigner":
        """This signer, if it holds `role`. Raises: BadKey otherwise."""
        refuse_other_role(self.role, role)
        return self

    def _ask(self, operation: str, algorithm: str, **details: str) -> bytes:
        answer = self._program.ask(self.role, operation, algorithm=algorithm, **details)
        return _read_bytes(answer, "signature")

    def _hash_to_mu(self, message: bytes) -> bytes:
        """FIPS 204, algorithm 7, line 6, for an empty context: 64 bytes instead of the message."""
        hasher = MLDSAMuHasher(MLDSA65PublicKey.from_public_bytes(self.public.mldsa65))
        hasher.update(message)
        mu: bytes = hasher.finalize()
        return mu

    def __repr__(self) -> str:
        return f"<CommandSigner {self.role} {self.public.key_id[:12]}>"


class CommandRecipient:
    """A decryption key behind a program."""

    __slots__ = ("_name", "_program", "public")

    def __init__(self, name: str, program: Program) -> None:
        """Raises: BadKey if the program does not tell a usable public key."""
        answer = program.ask(name, "public")
        self.public = PublicRecipient(
            _read_bytes(answer, "mlkem768"), _read_bytes(answer, "x25519")
        )
        self._name, self._program = name, program

    def unwrap(self, wrapped: bytes, *, info: bytes) -> bytes:
        """The secret that was wrapped for this key under `info`.

        Raises: CannotDecrypt without saying which part failed.
        """
        try:
            answer = self._program.ask(
                self._name, "unwrap", wrapped=encode64(wrapped), info=encode64(info)
            )
            return _read_bytes(answer, "secret")
        except SecurityError:
            raise CannotDecrypt("the wrapped key does not open") from None

    def __repr__(self) -> str:
        return f"<CommandRecipient {self._name} {self.public.recipient_id[:12]}>"


def _read_bytes(answer: Mapping[str, Any], field: str) -> bytes:
    try:
        return decode64(answer.get(field), f"{field} in the key command's answer")
    except SecurityError as error:
        raise BadKey(str(error), code="trust.key_command") from None


def _signs_mu(answer: Mapping[str, Any]) -> bool:
    given = answer.get("mldsa65Signs", "message")
    if given not in {"message", "mu"}:
        raise BadKey(
            'the key command\'s mldsa65Signs is neither "message" nor "mu"',
            code="trust.key_command",
        )
    return bool(given == "mu")
