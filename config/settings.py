"""Every setting, its default and its meaning. Unknown keys fail; the values are frozen once loaded."""

from __future__ import annotations

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


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value


class BrokerSettings(Section):
    """The queue's transport."""

    url: SecretStr | None = None
    """`redis://:password@host:6379/0`; None: a private Redis on loopback, started by `corewatch up`."""


class DatabaseSettings(Section):
    """The ledger's database."""

    url: SecretStr | None = None
    """`postgresql+pg8000://user:password@host/db`; None: SQLite in the data folder."""


class ModelSettings(Section):
    """What estimates the core."""

    name: str = "phantom-demo"
    alert_ml: float = Field(20.0, gt=0, le=500)
    """Core volume in mL from which a case is an alert; a hemisphere has about 600 mL."""
    spread: bool = True
    """Also run a small set of shifted and turned copies and report the 10-90 % interval."""
    perturbations: Annotated[Literal[5, 15], BeforeValidator(_number)] = 5
    """Size of that set."""
    device: Literal["cpu", "gpu"] = "cpu"
    """`gpu` without a usable GPU is an error, never a silent fallback."""
    cpu_fallback: bool = False
    """With `device: gpu`: compute on the processor while no GPU can be had, instead of letting cases wait. The log and `corewatch
    doctor` say so."""


class WorkSettings(Section):
    """Limits of the stages."""

    prepare_limit_s: float = Field(180.0, gt=0)
    detect_limit_s: float = Field(180.0, gt=0)
    deliver_limit_s: float = Field(180.0, gt=0)
    """Soft limits per task; the process is killed 15 s later."""
    attempts: int = Field(3, ge=1)
    """Attempts per stage before the case goes to an operator: a poison case does not circle."""
    lease_s: float = Field(120.0, gt=0)
    """Work that nobody has taken up for so long after it was posted is posted again: the broker may have been wiped. Each further
    look comes twice as late."""
    prepare_processes: int = Field(1, ge=1)
    deliver_processes: int = Field(2, ge=1)
    min_alignment_score: float | None = Field(None, ge=0, le=1)
    """Below this score a head is not analysed; None: the threshold that comes with the alignment."""

    @property
    def limits(self) -> StageLimits:
        """The stages' time limits."""
        return StageLimits(self.prepare_limit_s, self.detect_limit_s, self.deliver_limit_s)


class FlowerSettings(Section):
    """The queue's monitor."""

    host: str = "127.0.0.1"
    port: Port = 5555
    user: str = "corewatch"
    password: SecretStr | None = None
    """None: `corewatch up` makes one and writes it into the data folder, readable by the owner only."""


class RetentionSettings(Section):
    """How long what is on disk stays."""

    delivered_days: float = Field(7, ge=0)
    failed_days: float = Field(30, ge=0)
    free_gib: float = Field(20, ge=0)
    """Below this much free disk the oldest delivered cases go first, before their days are over."""


class LogSettings(Section):
    """Logging to standard error (systemd's journal or the container's log keeps it)."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"


class Settings(Section):
    """All settings; the fields are the sections of the YAML file."""

    data_dir: Path = Path("./data")
    """Ledger, received images, cases, models. Holds patient data; keep it on a local, encrypted disk."""
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
    def _sources_are_told_apart(self) -> Settings:
        if len({s.name for s in self.sources}) != len(self.sources):
            raise ValueError("each of sources needs a name of its own")
        return self

    @property
    def received_dir(self) -> Path:
        """Where arrived instances lie: the listener and the watch folder write here, nobody else."""
        return self.data_dir / "received"

    @property
    def commitment_dir(self) -> Path:
        """What the listener hears of storage commitment, until the daemon has it in the ledger."""
        return self.data_dir / "commitment"

    @property
    def queried_sources(self) -> tuple[Source, ...]:
        """Sources that are queried for the number of instances of a series."""
        return tuple(s for s in self.sources if (s.expected or self.series.expected) == "query")

    @property
    def cases_dir(self) -> Path:
        """One folder per case."""
        return self.data_dir / "cases"

    @property
    def model_names(self) -> tuple[str, ...]:
        """Models that cases can be given to: `model.name` first, then those that a rule names."""
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
