"""What can go wrong in a stage, grouped by what a caller does next.

StageError
  ContractBroken  the batch does not have the contract's schema: refuse it, keep main
  GateFailed      the candidate did not pass: keep the champion
  EmptyWindow     nothing to compute over: record a no-op
  Misconfigured   settings, ports, folders, servers: fix and run again
"""


class StageError(Exception):
    """Base of all stage errors; `remedy` is the second line a person reads."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


class ContractBroken(StageError):
    """A delivered file cannot be this dataset; `column` and `rule` say why."""

    def __init__(self, problem: str, *, rule: str, column: str = "", remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.rule = rule
        self.column = column


class GateFailed(StageError):
    """A candidate failed a gate; the registry and what serves are as they were."""


class EmptyWindow(StageError):
    """No row falls into the window asked for."""


class Misconfigured(StageError):
    """The surroundings are not what the stage needs."""
