"""Errors as text without patient data."""

from __future__ import annotations

import pytest

from corewatch.errors import CorewatchError, RetryLater
from foundation.safe_errors import describe_error


def test_foreign_errors_are_described_without_their_words() -> None:
    with pytest.raises(ValueError, match="Doe") as caught:
        raise ValueError("PatientName Doe^Jane")
    text = describe_error(caught.value)
    assert text.startswith("ValueError at ")
    assert "test_safe_errors.py" in text
    assert "Doe" not in text
    assert describe_error(RetryLater("say this")) == "say this"
    assert isinstance(RetryLater(), CorewatchError)
