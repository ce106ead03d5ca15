"""The errors that the top floor raises; each lower floor owns its own.

CodesignError          anything a user can cause here: one message, exit code 2
  StudyFileError       a study file is wrong; `problems` holds every problem with its path
  RunFolderError       a run folder is missing, taken, of another version, or driven by somebody else
  StorageError         the trial storage cannot be opened or written
  MachineError         the disk is full or cannot be written where a design is evaluated
  ExportError          a folder of an exported design is incomplete or of another version
"""

from __future__ import annotations


class CodesignError(ValueError):
    """Anything that a user can cause; its text is the whole message."""


class StudyFileError(CodesignError):
    """A study file is wrong.

    Args:
        source: the file, or where the text came from.
        problems: one line per problem, each beginning with its path.
    """

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join((f"{source}: {count}", *(f"  {problem}" for problem in problems))))


class RunFolderError(CodesignError):
    """A run folder is missing, taken, of another version, or driven by another process."""


class StorageError(CodesignError):
    """The trial storage cannot be opened or written."""


class ClusterError(CodesignError):
    """A Ray cluster cannot be reached, refuses us, or was lost."""


class MachineError(CodesignError):
    """The machine on which a design is evaluated is at fault, not the design: nothing is recorded of it."""


class ExportError(CodesignError):
    """A folder of an exported design is incomplete or of another version."""
