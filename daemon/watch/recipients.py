"""Recipients files: e-mail addresses that get the results of one drop, in `email.txt` inside it or `<name>.email.txt` beside it.

Everybody who can write into a watched folder can name recipients there. Only addresses that the settings name too, and those of the
domains in `watch.recipient_domains`, are used, so that a drop cannot send results about patients to an arbitrary address. The
domain of an address in the settings opens nothing: it may be a public provider's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parseaddr

from config.settings import Settings

RECIPIENTS_FILE = "email.txt"
"""In a dropped folder or zip, or among loose files: addresses that get its results too, one per line."""
SIDE_CAR_SUFFIX = f".{RECIPIENTS_FILE}"
"""Suffix of a recipients file beside its drop: `head.zip.email.txt` belongs to `head.zip`."""
MAX_RECIPIENTS = 20
MAX_RECIPIENTS_BYTES = 64 * 1024

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Recipients:
    """Content of a recipients file: the addresses that are used, and what is wrong with the others (without quoting them)."""

    addresses: tuple[str, ...]
    problems: tuple[str, ...]


def is_recipients(name: str) -> bool:
    """Whether a file of this name is a recipients file."""
    base = name.rpartition("/")[2].lower()
    return base == RECIPIENTS_FILE or base.endswith(SIDE_CAR_SUFFIX)


def side_car_of(name: str) -> str | None:
    """Name of the drop that a recipients file beside it belongs to; None where the file is none."""
    return name[: -len(SIDE_CAR_SUFFIX)] or None if name.lower().endswith(SIDE_CAR_SUFFIX) else None


def allowed_recipients(settings: Settings) -> frozenset[str]:
    """What a recipients file may name, lower case: the domains of `watch.recipient_domains`, and all addresses in the settings."""
    mail = settings.deliver.email
    named = [address for folder in settings.watch.folders for address in folder.email]
    if mail is not None:
        named += [mail.sender, *mail.to, *mail.operators]
    addresses = {parseaddr(address)[1].lower() for address in named}
    return frozenset({a for a in addresses if "@" in a} | {domain.lower() for domain in settings.watch.recipient_domains})


def read_recipients(data: bytes, allowed: Iterable[str]) -> Recipients:
    """Read a recipients file, one address per line. Empty lines and lines that begin with `#` are skipped.

    Parameters
    ----------
    allowed
        Domains and whole addresses, lower case; a subdomain of one is not allowed.
    """
    known = frozenset(allowed)
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [match for line in lines if (match := _ADDRESS.fullmatch(line)) is not None]
    good = [match[0] for match in matches if not known.isdisjoint({match[0].lower(), match[1].lower()})]
    problems = []
    if len(matches) < len(lines):
        problems.append(f"{len(lines) - len(matches)} of its lines are not e-mail addresses.")
    if len(good) < len(matches):
        outside = len(matches) - len(good)
        problems.append(f"{outside} of its addresses are neither in the settings nor of watch.recipient_domains.")
    if len(good) > MAX_RECIPIENTS:
        problems.append(f"Only its first {MAX_RECIPIENTS} addresses are used.")
    return Recipients(tuple(dict.fromkeys(good))[:MAX_RECIPIENTS], tuple(problems))
