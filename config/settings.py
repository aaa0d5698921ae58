"""All settings with defaults and meanings. Unknown keys fail; loaded values are frozen."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from config.audit import AuditSettings
from config.delivery import DeliverSettings
from config.intake import ListenerSettings, WatchSettings
from config.portal import PortalSettings
from config.section import Port, Section
from config.series import SeriesSettings
from config.sources import Source
from corewatch.stage_limits import StageLimits
from foundation.keys import installation_key


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value


class BrokerSettings(Section):
    """The broker of the work queue."""

    url: SecretStr | None = None
    """`redis://:password@host:6379/0`, `rediss://...` for TLS, or `redis+socket:///path/of/redis.sock`; null: a private Redis,
    which `corewatch up` starts. With `rediss://` the server's certificate and name are verified, unless the URL ends in
    `?ssl_cert_reqs=none`."""
    authority: Path | None = None
    """CA certificate (PEM) that the certificate of a `rediss://` server must come from; null: the system's CAs."""


class DatabaseSettings(Section):
    """The database of the ledger."""

    url: SecretStr | None = None
    """`postgresql+pg8000://user:password@host/db`; null: SQLite in the data folder."""


class ModelSettings(Section):
    """The model that estimates the ischemic core."""

    name: str = "phantom-demo"
    """Name of an installed or built-in model."""
    alert_ml: float = Field(20.0, gt=0, le=500)
    """Core volume in mL from which a case is an alert. A hemisphere has about 600 mL."""
    spread: bool = True
    """Also analyse shifted and rotated copies of the head, and report the 10-90 % range of their volumes (placement range)."""
    perturbations: Annotated[Literal[5, 15], BeforeValidator(_number)] = 5
    """Number of those copies."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Device to compute on. `gpu` without a usable GPU is an error, unless `cpu_fallback` is set."""
    cpu_fallback: bool = False
    """With `device: gpu`: compute on the CPU while no GPU is available, instead of letting cases wait. The log and `corewatch
    doctor` report that."""


class WorkSettings(Section):
    """Time limits, retries and processes of the stages."""

    prepare_limit_s: float = Field(180.0, gt=0)
    """Soft time limit of a `prepare` task in seconds; the process is killed 15 s later."""
    detect_limit_s: float = Field(180.0, gt=0)
    """The same for a `detect` task."""
    deliver_limit_s: float = Field(180.0, gt=0)
    """The same for a `deliver` task."""
    attempts: int = Field(3, ge=1)
    """Attempts per stage. After the last one the case ends `failed` and an operator is notified."""
    alarm_min: float = Field(8.0, gt=0)
    """Minutes that a case may wait in one state (for more images, for a worker, for a destination). Then the operators get one mail
    for that state, and another one when it is over."""
    lease_s: float = Field(120.0, gt=0)
    """Seconds after which published work that no worker has claimed is published again, since the broker may have lost it. The wait
    doubles each time."""
    prepare_processes: int = Field(1, ge=1)
    """Worker processes for `prepare`."""
    deliver_processes: int = Field(2, ge=1)
    """Worker processes for `deliver`."""
    min_alignment_score: float | None = Field(None, ge=0, le=1)
    """Alignment score below which a head is not analysed; null: the built-in threshold."""

    @property
    def limits(self) -> StageLimits:
        """Time limits of the stages."""
        return StageLimits(self.prepare_limit_s, self.detect_limit_s, self.deliver_limit_s)


class FlowerSettings(Section):
    """The queue monitor (Flower)."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 5555
    """Port to listen on."""
    user: str = "corewatch"
    """User name of its login."""
    password: SecretStr | None = None
    """Password of its login; null: `corewatch up` generates one in the data folder, readable by the owner only."""
    url_prefix: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    """Path below which a reverse proxy serves it, such as `dashboard`; empty: it has an address of its own."""


class RetentionSettings(Section):
    """How long cases and images stay on the disk."""

    delivered_days: float = Field(7, ge=0)
    """Days for which a delivered case stays."""
    failed_days: float = Field(30, ge=0)
    """Days for which a case that failed or was not analysed stays."""
    free_gib: float = Field(20, ge=0)
    """Free disk in GiB below which the oldest delivered cases are removed before their days are over."""


class LogSettings(Section):
    """Logging to standard error, which the systemd journal or the container's log keeps."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level that is logged."""
    format: Literal["text", "json"] = "text"
    """Format of a line: key=value text, or JSON."""


class Settings(Section):
    """All settings. The fields are the sections of the YAML file."""

    data_dir: Path = Path("./data")
    """Folder of the ledger, received images, cases and models. It holds patient data: use a local, encrypted disk."""
    listener: ListenerSettings = ListenerSettings()
    watch: WatchSettings = WatchSettings()
    sources: tuple[Source, ...] = ()
    series: SeriesSettings = SeriesSettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    model: ModelSettings = ModelSettings()
    deliver: DeliverSettings = DeliverSettings()
    work: WorkSettings = WorkSettings()
    flower: FlowerSettings = FlowerSettings()
    portal: PortalSettings | None = None
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _source_names_are_unique(self) -> Settings:
        if len({s.name for s in self.sources}) != len(self.sources):
            raise ValueError("the names in sources must be unique")
        return self

    @property
    def received_dir(self) -> Path:
        """The spool: received instances. Only the listener and the watch folders write here."""
        return self.data_dir / "received"

    @property
    def commitment_dir(self) -> Path:
        """Storage commitment requests and reports that the listener received, until the daemon has recorded them in the ledger."""
        return self.data_dir / "commitment"

    @property
    def queried_sources(self) -> tuple[Source, ...]:
        """Sources that are queried for the number of instances of a series."""
        return tuple(s for s in self.sources if (s.expected or self.series.expected) == "query")

    @property
    def cases_dir(self) -> Path:
        """The case folders."""
        return self.data_dir / "cases"

    @property
    def model_names(self) -> tuple[str, ...]:
        """Models that analyse cases: `model.name` first, then those of the rules."""
        of_rules = (rule.model for rule in self.series.rules if rule.include and rule.model is not None)
        return tuple(dict.fromkeys((self.model.name, *of_rules)))

    @property
    def models_dir(self) -> Path:
        """Installed models."""
        return self.data_dir / "models"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'ledger.sqlite'}"

    def search_key(self) -> bytes:
        """Key of the hashes by which a case is found by accession number or Patient ID; of `portal.key` where that is set."""
        shared = None if self.portal is None else self.portal.key
        if shared is None:
            return installation_key(self.data_dir, "search")
        return hmac.new(shared.get_secret_value().encode(), b"search", hashlib.sha256).digest()
