"""Queue messages: typed, JSON only, free of patient data, independent of the code of the tasks.

Flower and the broker show these arguments in clear text, so they hold a case id and nothing that identifies a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from corewatch.states import Stage


@dataclass(frozen=True, slots=True)
class Work:
    """One message: do `stage` for `case_id`; `destination` names the delivery where the stage is `deliver`."""

    stage: Stage
    case_id: str
    destination: str | None = None

    def __post_init__(self) -> None:
        if (self.destination is not None) != (self.stage is Stage.DELIVER):
            raise ValueError("exactly the deliver stage names a destination")

    @property
    def kwargs(self) -> dict[str, str]:
        """Keyword arguments of the task."""
        arguments = {"case_id": self.case_id}
        if self.destination is not None:
            arguments["destination"] = self.destination
        return arguments
