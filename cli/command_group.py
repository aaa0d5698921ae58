"""Click group of `corewatch`: commands are imported when they run, errors end as one line on standard error and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import IO, Any

import click

from cli.printable import printable
from corewatch.errors import ConfigurationError, CorewatchError, NotAnalysed
from corewatch.states import CaseState

_log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """Exit codes of `corewatch`, for scripts and service managers."""

    DONE = 0
    USAGE = 2
    """The command line or the settings cannot work (click's own code for usage errors too)."""
    NOT_ANALYSED = 3
    FAILED = 4

    @classmethod
    def of(cls, state: CaseState) -> ExitCode:
        """Exit code of a command that ran one case to `state`."""
        if state is CaseState.NOT_ANALYSED:
            return cls.NOT_ANALYSED
        return cls.FAILED if state is CaseState.FAILED else cls.DONE


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command: its line in the help, and its place (`module:attribute`)."""

    help: str
    target: str


class _Problem(click.ClickException):
    """An error that ends the command as one line: of text, or of a program that logs JSON, as a line of JSON."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(printable("; ".join(filter(None, (problem, remedy)))))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line, or log it where a program has set up JSON lines for the journal or another collector."""
        from config.logging import is_structured

        if is_structured():
            _log.error(self.format_message())
        else:
            super().show(file)


class UsageProblem(_Problem):
    """The command line or the settings cannot work: one line on standard error."""

    exit_code = ExitCode.USAGE


class NotAnalysedProblem(_Problem):
    """The case cannot or must not be analysed: one line on standard error."""

    exit_code = ExitCode.NOT_ANALYSED


class FailedProblem(_Problem):
    """The command failed for another reason than its settings: one line on standard error."""

    exit_code = ExitCode.FAILED


class LazyGroup(click.Group):
    """Commands under headings, imported lazily.

    Parameters
    ----------
    sections
        Heading -> name of the command -> entry, in the order of the help.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, CommandEntry]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the headings and one line per command, without importing any."""
        width = max(len(name) for name in self._entries)
        for heading, entries in self._sections.items():
            rows: Sequence[tuple[str, str]] = [(name.ljust(width), entry.help) for name, entry in entries.items()]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a `CorewatchError` ends as one line, any other with its traceback in the log and exit code 4."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except ConfigurationError as error:
            raise UsageProblem(str(error)) from error
        except NotAnalysed as error:
            raise NotAnalysedProblem(str(error)) from error
        except CorewatchError as error:
            raise FailedProblem(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise FailedProblem(f"{error.filename}: {error.strerror}") from error
        except Exception as error:
            if type(error).__module__ == "sqlalchemy.exc":  # not imported here: most commands need no database
                from ledger.database import unavailable

                if (why := unavailable(error)) is not None:
                    problem = f"the database does not answer: {why}"
                    raise FailedProblem(problem, "see that it runs, and correct database.url") from error
            _log.exception("unexpected error")
            raise FailedProblem(f"unexpected error: {type(error).__name__}: {error}") from error
