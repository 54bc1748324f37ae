"""What can go wrong in a stage, grouped by what a caller does next.

StageError
  ContractBroken  the batch does not have the contract's schema: refuse it, keep main
  EmptyWindow     nothing to compute over: record a no-op
  Misconfigured   settings, ports, folders, servers: fix and run again
"""


class StageError(Exception):
    """Base of all stage errors.

    `remedy` is the second line a person reads; `code` is what a program may rely on, one of those
    in docs/errors.md.
    """

    code = "stage.error"

    def __init__(self, problem: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.code = code or type(self).code


class ContractBroken(StageError):
    """Rows do not keep their contract; `column` and `rule` say why, and the code is the rule's."""

    def __init__(
        self, problem: str, *, rule: str, column: str = "", remedy: str = "", code: str = ""
    ) -> None:
        super().__init__(problem, remedy=remedy, code=code or f"contract.{rule}")
        self.rule = rule
        self.column = column


class EmptyWindow(StageError):
    """No row falls into the window asked for."""

    code = "stage.empty_window"


class Misconfigured(StageError):
    """The surroundings are not what the stage needs."""

    code = "setup.misconfigured"
