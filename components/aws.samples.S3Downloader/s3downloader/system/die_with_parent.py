"""Child processes that the kernel ends with their parent, even when that is killed."""

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
    """Return `command`, whose first word is a path, so that it dies with the thread that starts it.

    A launcher asks the kernel for that and becomes the command. (subprocess's `preexec_fn` would
    run Python in the fork of a process with threads, where it can hang for ever.)
    """
    return [*_launcher(), *command]


@cache
def _launcher() -> tuple[str, ...]:
    """Return util-linux's setpriv, which takes a millisecond, or else Python."""
    setpriv = shutil.which("setpriv")
    if setpriv:
        words = (setpriv, "--pdeathsig", "KILL", "--")
        if subprocess.run([*words, setpriv, "--version"], capture_output=True).returncode == 0:
            return words
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER)
