"""What can go wrong with keys, signatures and sealed bytes, grouped by what a caller does next.

SecurityError
  Untrusted      a signature, binding, policy or freshness check failed: stop, never fall back
  CannotDecrypt  sealed bytes do not open: stop, never fall back
  BadKey         (ValueError) a key file is missing, readable by others, or malformed
"""


class SecurityError(Exception):
    """Base of all security errors; `remedy` is the second line a person reads."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


class Untrusted(SecurityError):
    """Something about the artifact could not be verified; it must not be loaded."""


class CannotDecrypt(SecurityError):
    """The payload did not authenticate; the reason stays in the audit log."""


class BadKey(SecurityError, ValueError):
    """A key cannot be used; nothing was signed or decrypted with it."""
