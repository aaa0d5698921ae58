"""One exception root, branched by what happens next.

A handler needs three answers only: try again later (`RetryLater`), end the case with a reason (`NotAnalysed`), or put it in front
of an operator (`OperatorNeeded`). Everything else that reaches a handler is a defect of ours and counts as a failed attempt.
"""

from __future__ import annotations

from corewatch.reasons import Reason


class CorewatchError(Exception):
    """Root of every error that corewatch raises on purpose."""


class NotAnalysed(CorewatchError):
    """The series cannot or must not be analysed: the case ends `not_analysed`, and nothing is tried again.

    Parameters
    ----------
    reason
        Which of the known reasons it is.
    detail
        What was found in this series, in words a radiographer understands. Free of patient data.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.sentence} {detail}".strip())
        self.reason = reason
        self.detail = detail

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return self.reason.remedy


class RetryLater(CorewatchError):
    """A passing fault of the surroundings (a PACS that is down, a full disk): try again, with patience."""


class NoAnswer(RetryLater):
    """A server is not there or says no more: whoever asks it next may wait as long."""


class OperatorNeeded(CorewatchError):
    """Trying again cannot help before a person has changed something: the case or delivery ends `failed`."""


class ConfigurationError(CorewatchError):
    """The settings cannot work. The message names the key and says what to write instead; the program exits with 2."""


class IllegalTransition(CorewatchError):
    """A case was asked to go where the transition table has no way (see `corewatch.states`)."""
