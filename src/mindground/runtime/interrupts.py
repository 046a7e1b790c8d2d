"""Ctrl-C stays Ctrl-C while MindSpore compiles or runs a graph."""

from __future__ import annotations

import os
import signal
import sys
import threading

__all__ = ["keep_ctrl_c"]

_AT_ONCE = 3
_started = False


def keep_ctrl_c() -> None:
    """Let SIGINT reach Python's handler, whatever C code does with it; call it before MindSpore is imported.

    While a graph compiles or runs, MindSpore's own handler turns SIGINT into SIGTERM, which would be told as another
    signal with another exit code. So SIGINT is blocked in this thread, and thereby in all that start later, and one
    thread waits for it and has Python's handler called in the main thread. The third Ctrl-C ends the process at once
    with code 130, also while C code runs. Commands call this; a library leaves the signals to its user.
    """
    global _started
    if _started or not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        return
    if "mindspore" in sys.modules:
        # Its threads would take the signal all the same.
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A command in the background; Ctrl-C is meant for another one.
        return
    _started = True
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.register_at_fork(after_in_child=_unblock)
    threading.Thread(target=_wait, name="ctrl-c", daemon=True).start()


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _wait() -> None:
    import _thread

    for _ in range(1, _AT_ONCE):
        signal.sigwait({signal.SIGINT})
        _thread.interrupt_main(signal.SIGINT)
    signal.sigwait({signal.SIGINT})
    os.write(2, b"stopped at once\n")
    os._exit(130)
