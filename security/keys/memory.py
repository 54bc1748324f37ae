"""Keeping keys out of core files. Python cannot promise to wipe them from memory."""

import ctypes
import resource
import sys


def forbid_core_dumps() -> None:
    """No core file of this process, however it dies; called before any private key is read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit does not hold for a core_pattern that pipes; PR_SET_DUMPABLE does.
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
