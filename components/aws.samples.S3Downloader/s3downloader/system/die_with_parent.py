"""Makes the kernel kill a child process when its parent dies, also after kill -9."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache

__all__ = ["die_with_parent"]

_PYTHON = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL: prctl(2)
    "if str(os.getppid()) == sys.argv[1]:\n"
    "    os.execv(sys.argv[2], sys.argv[2:])"
)
_SHELL = '[ "$PPID" = "$0" ] && exec "$@"'


def die_with_parent(*command: str) -> list[str]:
    """Return a command line that runs `command` and dies with the thread that starts it.

    The first word of `command` is a path. A launcher sets the parent-death signal and then executes
    the command, unless this process has died before the signal was set: nothing would end the
    command then. subprocess's `preexec_fn` is no alternative: it runs Python in a fork of a process
    with threads, which can hang.
    """
    return [*_launcher(), str(os.getpid()), *command]


@cache
def _launcher() -> tuple[str, ...]:
    """Return the words before the parent's id and the command.

    setpriv of util-linux and a shell start in milliseconds; Python serves if setpriv is missing.
    """
    setpriv = shutil.which("setpriv")
    if setpriv:
        words = (setpriv, "--pdeathsig", "KILL", "--")
        if subprocess.run([*words, setpriv, "--version"], capture_output=True).returncode == 0:
            return (*words, "/bin/sh", "-c", _SHELL)
    return (sys.executable, "-I", "-S", "-c", _PYTHON)
