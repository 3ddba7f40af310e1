"""Processes that load data, and the signals that ask a run to stop."""

import os
import signal
import threading

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SLURM sends the second where `--signal=USR1@…` asks for it


def ignore_group_signals(_: int) -> None:
    """Let only the parent end this loader process, so that a signal to the whole group leaves the last step its data.

    Python ends its loaders at exit by SIGTERM, and waits for ever for one that ignores it.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo(STOP_SIGNALS).si_pid != parent:
        pass
    os._exit(0)
