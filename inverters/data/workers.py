"""Loader processes, and the signals that stop a run."""

import os
import signal
import threading

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SLURM sends the second on `--signal=USR1@…`


def ignore_group_signals(_: int) -> None:
    """Make this loader process obey stop signals from its parent only.

    A signal to the whole process group would otherwise end the loaders before the last step has its data. Ignoring
    SIGTERM altogether would not do: Python sends it to its loaders at exit, and waits until they end.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo(STOP_SIGNALS).si_pid != parent:
        pass
    os._exit(0)
