"""Makes the kernel kill a child process when its parent dies, also after kill -9."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache

__all__ = ["die_with_parent"]

_LAUNCHER = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL: prctl(2)
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def die_with_parent(*command: str) -> list[str]:
    """Return a command line that runs `command` and dies with the thread that starts it.

    The first word of `command` is a path. A launcher sets the parent-death signal and then executes
    the command. subprocess's `preexec_fn` is no alternative: it runs Python in a fork of a process
    with threads, which can hang.
    """
    return [*_launcher(), *command]


@cache
def _launcher() -> tuple[str, ...]:
    """Return setpriv of util-linux, which starts in a millisecond, or Python if it is missing."""
    setpriv = shutil.which("setpriv")
    if setpriv:
        words = (setpriv, "--pdeathsig", "KILL", "--")
        if subprocess.run([*words, setpriv, "--version"], capture_output=True).returncode == 0:
            return words
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER)
