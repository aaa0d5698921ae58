"""Run a command that ends when its parent ends: `python tether.py PARENT_PID COMMAND [ARGUMENT ...]`.

Run as a file, it needs nothing but the standard library. The kernel sends SIGTERM to the process when its parent dies
(prctl(2), PR_SET_PDEATHSIG), and that wish outlives execve(2), so that it can be made for any program from outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def command_line(command: list[str]) -> list[str]:
    """The command, tethered to the calling process. Start it from the main thread: the tether is tied to the thread."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the wish was made
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
