"""Who gets the results of a drop besides the general list: a file `email.txt` in it, or `<name>.email.txt` beside it.

Anybody who may write into a watched folder may name recipients there, so that only addresses of known domains are used: a drop must
not be a way to mail results about patients to anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from config.settings import Settings

RECIPIENTS_FILE = "email.txt"
"""In a dropped folder or zip, or among loose files: addresses that get its results too, one a line."""
SIDE_CAR_SUFFIX = f".{RECIPIENTS_FILE}"
"""Ends the name of a recipients file that lies beside its drop: `head.zip.email.txt` belongs to `head.zip`."""
MOST_RECIPIENTS = 20
LARGEST_RECIPIENTS_BYTES = 64 * 1024

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Recipients:
    """What a recipients file says: the addresses that are used, and what is wrong with the others (without quoting them)."""

    addresses: tuple[str, ...]
    problems: tuple[str, ...]


def is_recipients(name: str) -> bool:
    """Whether this is the recipients file of a drop."""
    base = name.rpartition("/")[2].lower()
    return base == RECIPIENTS_FILE or base.endswith(SIDE_CAR_SUFFIX)


def side_car_of(name: str) -> str | None:
    """Name of the drop that a file beside it names recipients for; None where it is no such file."""
    return name[: -len(SIDE_CAR_SUFFIX)] or None if name.lower().endswith(SIDE_CAR_SUFFIX) else None


def allowed_domains(settings: Settings) -> frozenset[str]:
    """Domains that a recipients file may use, lower case: those listed for it, and those that the settings send to in any case."""
    mail = settings.deliver.email
    named = [address for folder in settings.watch.folders for address in folder.email]
    if mail is not None:
        named += [mail.sender, *mail.to, *mail.operators]
    domains = {address.strip(" <>").rpartition("@")[2].lower() for address in named if "@" in address}
    return frozenset(domains | {domain.lower() for domain in settings.watch.recipient_domains})


def read_recipients(data: bytes, domains: Iterable[str]) -> Recipients:
    """Read a recipients file, one address a line. Empty lines and lines that begin with `#` do not count.

    Parameters
    ----------
    domains
        Those that are allowed, lower case; a subdomain of one is another domain.
    """
    allowed = frozenset(domains)
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [match for line in lines if (match := _ADDRESS.fullmatch(line)) is not None]
    good = [match[0] for match in matches if match[1].lower() in allowed]
    problems = []
    if len(matches) < len(lines):
        problems.append(f"{len(lines) - len(matches)} of its lines are not e-mail addresses.")
    if len(good) < len(matches):
        outside = len(matches) - len(good)
        problems.append(f"{outside} of its addresses are outside of the allowed domains (watch.recipient_domains).")
    if len(good) > MOST_RECIPIENTS:
        problems.append(f"Only its first {MOST_RECIPIENTS} addresses are used.")
    return Recipients(tuple(dict.fromkeys(good))[:MOST_RECIPIENTS], tuple(problems))
