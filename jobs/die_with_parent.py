"""Run a command that dies with its parent: `python die_with_parent.py PARENT_PID COMMAND [ARGUMENT ...]`.

The kernel sends the process SIGTERM when its parent dies (prctl(2), PR_SET_PDEATHSIG). That setting survives execve(2), so this
works for any program. Run as a file, it needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def command_line(command: list[str]) -> list[str]:
    """The command line that runs `command` until the calling thread ends; so start it from the main thread."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Ask for the signal and become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the signal was asked for
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
