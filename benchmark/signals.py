"""Being asked to stop: handlers only note a signal, the work looks at the note between two steps or chunks.

USR2 and USR1 announce the end of the time or a preemption; TERM, INT (Ctrl-C) and HUP (the terminal closed) ask
for the end. INT after any of them is a KeyboardInterrupt: whoever presses Ctrl-C again will not wait.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes in its foreground."""
ASKING = (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM, *TERMINAL)
TERM, ANNOUNCED = 1, 2
"""How a process was asked to stop: to end, or with time left for more than the end (USR2, USR1)."""
WORDS = {TERM: "TERM, INT or HUP", ANNOUNCED: "USR2 or USR1"}
_heard: list[int] = []
_early: list[int] = []
"""What was heard before ``listening``."""
_at_once: list[bool] = []
"""Not empty within ``at_once``."""


class Stopped(Exception):
    """A signal asked for the end, and the work stands on disk."""

    def __init__(self, how: int) -> None:
        super().__init__(f"stopped by {WORDS[how]}")
        self.how = how


def hear_early() -> None:
    """Note signals from now on, for ``listening`` to take up: by default they end a process that still imports."""
    _note_in(_early)


@contextmanager
def listening() -> Iterator[socket.socket | None]:
    """Note the signals that ask this process to stop, in place of whatever handlers there were.

    Yields a socket that gets a byte for every signal, also while the main thread is stuck in foreign code. Forked
    children note nothing. Off the main thread, where Python sets no handlers, it does nothing and yields None.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wakeup_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    before = _note_in(_heard)
    _heard[:] = _early
    _early.clear()
    try:
        yield ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        _heard.clear()
        ours.close()
        theirs.close()


def _note_in(notes: list[int]) -> dict[signal.Signals, Callable[..., Any] | int | None]:
    """Handle the signals by noting them; the handlers before.

    nohup has its command ignore HUP, a shell's script what it starts with ``&`` INT: that stays so.
    """
    owner = os.getpid()

    def note(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        if number == signal.SIGINT and notes:
            raise KeyboardInterrupt
        notes.append(ANNOUNCED if number in (signal.SIGUSR1, signal.SIGUSR2) else TERM)
        if _at_once:
            raise Stopped(notes[-1])

    heeded = [n for n in ASKING if n not in TERMINAL or signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, note) for number in heeded}


def asked() -> int:
    """0 as long as nobody has asked this process to stop, then ``TERM`` or ``ANNOUNCED``, which counts more."""
    return max(_heard, default=0)


def stop_if_asked() -> None:
    """Raise Stopped if this process was asked to stop; for work that one process does alone."""
    if how := asked():
        raise Stopped(how)


@contextmanager
def at_once() -> Iterator[None]:
    """Within, a signal raises Stopped wherever the work is: it looks at no note and has nothing to save."""
    stop_if_asked()
    _at_once.append(True)
    try:
        yield
    finally:
        _at_once.clear()
    stop_if_asked()  # somebody may have caught it


def in_worker() -> None:
    """For a forked worker, which gets every signal that its job or terminal gets: only its parent ends it.

    A worker that died of TERM would take away the batches that the parent still trains on before it saves; one
    that ignored TERM could not be ended by the parent.
    """
    for number in ASKING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_heed, args=(os.getppid(),), daemon=True).start()


def _heed(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
