"""What can go wrong with keys, signatures and sealed bytes, grouped by what a caller does next.

SecurityError
  Untrusted      a signature, binding, policy or freshness check failed: stop, never fall back
  CannotDecrypt  sealed bytes do not open: stop, never fall back
  BadKey         (ValueError) a key file is missing, readable by others, or malformed
"""


class SecurityError(Exception):
    """Base of all security errors.

    `remedy` is the second line a person reads; `code` is what a program may rely on, one of those
    in docs/errors.md.
    """

    code = "trust.error"

    def __init__(self, problem: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.code = code or type(self).code


class Untrusted(SecurityError):
    """Something about the artifact could not be verified; it must not be loaded."""

    code = "trust.untrusted"


class CannotDecrypt(SecurityError):
    """The payload did not authenticate. Every cause reads the same; `detail` is for the audit log.

    Nothing shows `detail` by itself: it is in neither `str` nor `repr`.
    """

    code = "trust.cannot_decrypt"

    def __init__(self, problem: str, *, remedy: str = "", detail: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.detail = detail


class BadKey(SecurityError, ValueError):
    """A key cannot be used; nothing was signed or decrypted with it."""

    code = "trust.bad_key"


def format_error(problem: str) -> Untrusted:
    """What bytes are refused with that are no document of ours, or not in its one form."""
    return Untrusted(problem, code="trust.malformed")


def cannot_decrypt(detail: str) -> CannotDecrypt:
    """One error for every cause: a caller learns nothing about keys from it; an auditor does."""
    return CannotDecrypt(
        "the sealed payload does not open with this key",
        remedy="fetch the release again, or ask its owner to add this recipient",
        detail=detail,
    )
