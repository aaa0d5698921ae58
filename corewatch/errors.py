"""One exception root, branched by what happens next.

A handler needs three answers only: try again later (`RetryLater`), end the case with a reason (`NotAnalysed`), or put it in front
of an operator (`OperatorNeeded`). Any other exception is a defect in corewatch and counts as a failed attempt.
"""

from __future__ import annotations

from corewatch.reasons import Reason


class CorewatchError(Exception):
    """Root of every error that corewatch raises on purpose.

    Parameters
    ----------
    problem
        What happened, and to which peer, file or setting.
    remedy
        What a person can do about it; empty where nothing is known that helps.

    >>> error = CorewatchError("PACS MAIN does not answer", "see that it runs, and correct its port")
    >>> error.remedy
    'see that it runs, and correct its port'
    >>> str(error)
    'PACS MAIN does not answer; see that it runs, and correct its port'
    """

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        super().__init__(problem, remedy)

    @property
    def problem(self) -> str:
        """What happened, without the remedy."""
        return str(self.args[0])

    @property
    def remedy(self) -> str:
        """What a person can do about it; empty where nothing is known that helps."""
        return str(self.args[1])

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.problem, self.remedy)))


class NotAnalysed(CorewatchError):
    """The series cannot or must not be analysed: the case ends `not_analysed`, and nothing is tried again.

    Its text is the problem alone; pages and mails show the remedy separately.

    Parameters
    ----------
    reason
        Which of the known reasons it is.
    detail
        What was found in this series, in words a radiographer understands. Free of patient data.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__()
        self.args = (reason, detail)  # the constructor's own, so that a copy from another process is equal
        self.reason = reason
        self.detail = detail

    @property
    def problem(self) -> str:
        """The reason's sentence and the detail."""
        return f"{self.reason.sentence} {self.detail}".strip()

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return self.reason.remedy

    def __str__(self) -> str:
        return self.problem


class RetryLater(CorewatchError):
    """A passing fault of the surroundings, such as a PACS that is down or a full disk: try again later."""


class NoAnswer(RetryLater):
    """A server cannot be reached, or has stopped answering; the next request to it may wait as long."""


class SlowAnswer(RetryLater):
    """A server answers, but so slowly that the attempt was ended to free its process; what it has done is kept."""


class OperatorNeeded(CorewatchError):
    """Trying again cannot help before a person has changed something: the case or delivery ends `failed`."""


class DeliveryWithdrawn(CorewatchError):
    """The delivery is no longer wanted, and ends `skipped`: an alert was acknowledged while its escalation was being sent."""


class ConfigurationError(CorewatchError):
    """The settings cannot work. The message names the key and says what to write instead; the program exits with 2."""


class IllegalTransition(CorewatchError):
    """The transition table does not allow this change of state (see `corewatch.states`)."""
