"""Becomes a service: detach, wait for the signal to go, exec. Uses only the standard library.

It is a file of its own because it runs by its path, without this package. The supervisor writes
down the process id before it lets it go. If the supervisor is killed in between, no process is
left that nobody knows: the shim reads end-of-file and exits.
"""

import os
import signal
import sys

GO = b"g"
RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def become(command: list[str]) -> None:
    """Print the id of the process that is to be, and exec `command` in it once it may go."""
    # The parent of the service is init, so that a caller that lives on keeps no zombie.
    if pid := os.fork():
        os.write(1, f"{pid}\n".encode())
        os._exit(0)
    os.setsid()
    os.dup2(2, 1)
    # A shell's `&` and nohup leave signals ignored, and exec would hand that on.
    for number in RESET:
        signal.signal(number, signal.SIG_DFL)
    if os.read(0, 1) != GO:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    try:
        become(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"cannot run {sys.argv[1]}: {error.strerror}\n")
        os._exit(127)
