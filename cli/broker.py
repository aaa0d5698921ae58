"""Where the broker is."""

from __future__ import annotations

from config.settings import Settings
from corewatch.errors import ConfigurationError
from jobs.embedded import running_url


def broker_url(settings: Settings) -> str:
    """URL of the broker: the configured one, else that of the private Redis of a running `corewatch up`.

    Raises
    ------
    ConfigurationError
        There is neither.
    """
    if settings.broker.url is not None:
        return settings.broker.url.get_secret_value()
    url = running_url(settings.data_dir / "redis")
    if url is None:
        raise ConfigurationError("there is no broker: set broker.url to your Redis, or start `corewatch up`, which brings its own")
    return url
