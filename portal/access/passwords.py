"""Passwords: argon2id, in bounded memory, and as slow for unknown users as for known ones."""

from __future__ import annotations

import secrets
import threading
from functools import cached_property
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from corewatch.errors import ConfigurationError

SHORTEST: Final = 12
LONGEST: Final = 256
"""In characters; bounds what an anonymous request makes us hash."""

_AT_ONCE: Final = 2
"""Verifications at the same time: each takes 64 MiB."""


def check_new_password(password: str, login: str) -> None:
    """Refuse a new password that is too short, too long, or the login.

    Raises
    ------
    ConfigurationError
        With what to do instead.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigurationError(
            f"the password has {len(password)} characters", f"choose one of {SHORTEST} to {LONGEST} characters, such as a few words"
        )
    if password.casefold() == login.casefold() or len(set(password)) < 4:
        raise ConfigurationError("the password is easy to guess", "choose another one, such as a few words")


class Passwords:
    """Hashes and verifies passwords. Thread-safe."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: str) -> str:
        """Hash with a random salt, in the format that names its parameters."""
        with self._turns:
            return self._hasher.hash(password)

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether the password belongs to the hash. Takes the same time for None or an empty hash, and then is False."""
        if len(password) > LONGEST:
            return False
        with self._turns:
            try:
                found = self._hasher.verify(password_hash or self._of_nobody, password)
            except (VerificationError, InvalidHashError):
                return False
        return found and bool(password_hash)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than present ones."""
        return self._hasher.check_needs_rehash(password_hash)

    @cached_property
    def _of_nobody(self) -> str:
        return self._hasher.hash(secrets.token_urlsafe())
