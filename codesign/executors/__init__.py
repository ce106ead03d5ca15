"""Where trials are evaluated: this process, worker processes of this machine, or a Ray cluster."""

from codesign.executors.in_process import InProcess
from codesign.executors.local import LocalProcesses
from codesign.executors.protocol import Executor, Finished

__all__ = ["Executor", "Finished", "InProcess", "LocalProcesses"]
