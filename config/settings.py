"""Every setting, its default and its meaning. Unknown keys fail; the values are frozen once loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from corewatch.limits import Limits
from corewatch.selection import Rule

Port = Annotated[int, Field(ge=0, le=65535)]
_AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=_AE_TITLE)]
"""PS3.5 6.2: at most 16 characters, no backslash, no control characters; spaces inside only."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


class Peer(Section):
    """A system that may send to us."""

    ae_title: AeTitle
    host: str


class TlsFiles(Section):
    """Certificate of ours and the authority that the peer's must come from."""

    certificate: Path
    key: Path
    authority: Path


class ListenerSettings(Section):
    """The Storage SCP."""

    ae_title: AeTitle = "COREWATCH"
    """Name under which senders call us."""
    host: str = "0.0.0.0"
    port: Port = 11112
    processes: int = Field(1, ge=1, le=64)
    """Processes that share the port; more than one for many associations at once."""
    peers: tuple[Peer, ...] = ()
    """Who may send. Programs on this machine (loopback) always may, under any AE title; empty: nobody else."""
    tls: TlsFiles | None = None
    """TLS 1.2 or later with client certificates; null: plain."""
    max_associations: int = Field(32, ge=1)
    """Associations at the same time, per process."""
    idle_timeout_s: float = Field(60.0, gt=0)
    """An association without traffic for so long is ended, so that a dead peer does not hold a series open."""
    max_pdu_bytes: int = Field(262_144, ge=4096)
    reserve_gib: float = Field(2.0, ge=0)
    """Below this much free disk a C-STORE is answered with 0xA700 (out of resources)."""


class WatchedFolder(Section):
    """A folder that people or programs drop files into."""

    path: Path
    email: tuple[str, ...] = ()
    """Who gets the results of what is dropped here, besides the general list."""


class WatchSettings(Section):
    """The watch folders."""

    folders: tuple[WatchedFolder, ...] = (WatchedFolder(path=Path("./inbox")),)
    polling: Literal["auto", "always", "never"] = "auto"
    """Look for changes instead of waiting for file events; `auto`: on network file systems."""
    settle_s: float = Field(2.0, ge=0)
    """A file counts as written when size and time of change have stood still for so long."""
    rescan_s: float = Field(5.0, gt=0)
    """File events are only hints: the folders are read anew this often."""


class SeriesRule(Section):
    """Which series count as a CTA head. The first rule that matches decides; a series that none matches is not analysed.

    The patterns are regular expressions that are searched in descriptions; an empty one asks for nothing. Underscores in the
    descriptions read as spaces. A rule with `include: false` needs a `text` of its own and asks for nothing that it does not name.
    """

    name: str
    include: bool = True
    """False: a series that matches is left out (`excluded_by_rule`)."""
    text: str = (
        r"(?i)(head|brain|skull|neuro|cerebr|crani|cr[aâ]ne|cr[aá]neo|enc[eé]phal|cerveau|\bt[eê]te\b|cabeza|\btesta\b|kopf|sch(ae|ä)del"
        r"|hirn|hersen|hoofd|hoved|huvud|hjern|hjärn|stroke|schlaganfall|neck|hals|carot|karot|supra.?aort|\btsa\b|\bcow\b|willis|vertex)"
    )
    """Must be found in body part, study or series description or protocol name."""
    elsewhere_text: str = (
        r"(?i)(chest|thora|lung|abdom|pelvi|becken|liver|leber|kidney|renal|cardi|heart|herz|coronar|koronararter|aorta|runoff|femor"
        r"|extremit|\bleg|\bbein|\barm\b|knee|foot|shoulder|spine|lumb|wirbel|\b[hbl]ws\b)"
    )
    """Another part of the body: a series that names it in body part or series description, and nothing of `text` with it, is no
    head."""
    not_text: str = (
        r"(?i)\b(mips?|minip|mpr|vrt?|3d|ssd|topo(gram)?|scout|surview|scanogram|locali[sz]er|perf(usion)?|ctp|4d|cbf|cbv|mtt|tmax|ttp"
        r"|(test ?)?bolus|(pre)?monitoring|smart ?prep|sure ?start|tracker|dose|dosis|report|protocol"
        r"|bone|knochen|lung|lunge|sub|subtract\w*|dsa|iodine|jod|vnc|mono ?e\w*|\d+ ?kev|venous|ven(ö|oe)s\w*|ctv|delay(ed)?"
        r"|phase ?[23])\b"
    )
    """Must not be found in the series description: projections, reformats, monitoring, maps, late phases and other by-products."""
    not_kernel: str = r"(?i)(bone|edge|lung|ultra|^\s*[bhuj][rvfcl]?[6-9]\d|^\s*fc[358]\d)"
    """Must not be found in the convolution kernel: sharp reconstructions of the same scan for bone and lung."""
    contrast: bool = True
    """Ask for a sign of contrast medium in the series itself: an agent in the header, or `contrast_text` in its description. Study
    and protocol do not count, since the native scan of the same examination bears the same names."""
    contrast_text: str = (
        r"(?i)(cta|angio|contrast|kontrast|enhanced|\bc ?\+|\+ ?c\b|\bkm\b|\bce\b|\biv\b|arter|carot|karot|vessel|vascul"
        r"|gef(ae|ä)(ss|ß)|supra.?aort|\btsa\b|\bcow\b|willis|head\W*(and|und)?\W*neck|kopf\W*hals|hals\W*kopf)"
    )
    native_text: str = (
        r"(?i)(non?[ -]?(iv ?)?contrast|unenhanced|ncct|nect|\bnc\b|\bnativ|\bohne\b|\bsans\b|\bsenza\b|\bzonder\b|\bplain\b"
        r"|\bc-(\s|$)|pre[ -]?contrast|^(?!.*\b(w|with)\b(?!/)).*\b(w/?o|without)\b)"
    )
    """A series description that says "without contrast medium"; stronger than any sign of contrast."""
    min_slices: int = Field(40, ge=1)
    min_coverage_mm: float = Field(100.0, ge=0)
    max_slice_step_mm: float = Field(5.0, gt=0)
    """Largest slice thickness, and largest distance between neighbouring slices."""
    model: str | None = None
    """Model for the series that match; None: `model.name`."""

    @model_validator(mode="before")
    @classmethod
    def _exclusion_asks_only_what_it_names(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("include", True) is not False:
            return data
        if not data.get("text"):
            raise ValueError("a rule with include: false needs a text of its own, or it would leave out every head")
        nothing = {
            "elsewhere_text": "",
            "not_text": "",
            "not_kernel": "",
            "contrast": False,
            "native_text": "",
            "min_slices": 1,
            "min_coverage_mm": 0.0,
            "max_slice_step_mm": 1000.0,
        }
        return nothing | data

    @field_validator("text", "elsewhere_text", "not_text", "not_kernel", "contrast_text", "native_text")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def to_rule(self) -> Rule:
        """The rule as the domain knows it."""
        return Rule(**self.model_dump())


class SeriesSettings(Section):
    """When a series is complete, and which series are analysed."""

    idle_s: float = Field(20.0, gt=0)
    """A series without a new image for so long is taken as complete, whatever it looks like."""
    grace_s: float = Field(1.0, ge=0)
    """Quiet time when the association was released and the stack is regular: then there is no reason to wait longer."""
    rules: tuple[SeriesRule, ...] = (SeriesRule(name="cta-head"),)


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
    alert_ml: float = Field(20.0, gt=0)
    """Core volume in mL from which a case is an alert."""
    spread: bool = True
    """Also run a small set of shifted and turned copies and report the 10-90 % interval."""
    perturbations: Annotated[Literal[5, 15], BeforeValidator(_number)] = 5
    """Size of that set."""
    device: Literal["cpu", "gpu"] = "cpu"
    """`gpu` without a usable GPU is an error, never a silent fallback."""


class PacsDestination(Section):
    """A PACS that gets the results."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    ae_title: AeTitle
    host: str
    port: Port
    our_ae_title: AeTitle | None = None
    """Calling AE title; None: the listener's."""
    tls: TlsFiles | None = None
    objects: tuple[Literal["sc"], ...] = Field(("sc",), min_length=1)
    """Kinds of objects this PACS gets; `sc`: Secondary Captures."""
    not_analysed: bool = False
    """Also send the page that says why a series was not analysed. What no rule takes for a CTA head stays out of the PACS."""
    timeout_s: float = Field(30.0, gt=0)


class FolderDestination(Section):
    """Where finished cases are copied to."""

    path: Path = Path("./results")


class EmailDestination(Section):
    """The stroke team's and the operators' mail."""

    host: str
    port: Port = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    sender: str = Field(alias="from")
    to: tuple[str, ...] = ()
    """The stroke team: gets results."""
    operators: tuple[str, ...] = ()
    """Gets what was not analysed and what failed. Empty: the stroke team's list gets it."""
    when: Literal["always", "positive", "never"] = "always"
    patient_fields: tuple[str, ...] = ()
    """DICOM keywords (such as PatientID) that may stand in the mail's body. Never in its subject."""
    authority: Path | None = None
    """PEM of the authority of the server's certificate; None: the system's."""
    timeout_s: float = Field(20.0, gt=0)


class DeliverSettings(Section):
    """Where results go."""

    pacs: tuple[PacsDestination, ...] = ()
    folder: FolderDestination | None = FolderDestination()
    email: EmailDestination | None = None
    give_up_h: float = Field(48.0, gt=0)
    """A destination that is away is tried for so long, then an operator must look."""
    attempts: int = Field(8, ge=1)
    """Attempts that may end in an error of corewatch's own, or with a killed worker, before an operator must look."""
    backoff_s: float = Field(5.0, gt=0)
    """Wait after the first failed attempt. Later ones wait as long again as has passed since the first: 5, 10, 20 s ..."""
    backoff_max_s: float = Field(3600.0, gt=0)
    """The longest wait."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Destinations that hear of a case that ends without a finding (`not_analysed` or `failed`)."""
        return (("folder",) if self.folder else ()) + (("operators",) if self.email else ())

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Those, and each PACS that wants the page of a case that a stage ends `not_analysed`."""
        return self.notices + tuple(pacs.name for pacs in self.pacs if pacs.not_analysed)

    @model_validator(mode="after")
    def _names_are_unique(self) -> DeliverSettings:
        names = [p.name for p in self.pacs]
        if len(set(names)) != len(names) or {"folder", "email", "operators"} & set(names):
            raise ValueError("each PACS needs a name of its own, other than folder, email and operators")
        return self


class WorkSettings(Section):
    """Limits of the stages."""

    prepare_limit_s: float = Field(180.0, gt=0)
    detect_limit_s: float = Field(180.0, gt=0)
    deliver_limit_s: float = Field(180.0, gt=0)
    """Soft limits per task; the process is killed 15 s later."""
    attempts: int = Field(3, ge=1)
    """Attempts per stage before the case goes to an operator: a poison case does not circle."""
    prepare_processes: int = Field(1, ge=1)
    deliver_processes: int = Field(2, ge=1)
    min_alignment_score: float | None = Field(None, ge=0, le=1)
    """Below this score a head is not analysed; None: the threshold that comes with the alignment."""

    @property
    def limits(self) -> Limits:
        """The stages' time limits."""
        return Limits(self.prepare_limit_s, self.detect_limit_s, self.deliver_limit_s)


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
    series: SeriesSettings = SeriesSettings()
    broker: BrokerSettings = BrokerSettings()
    database: DatabaseSettings = DatabaseSettings()
    model: ModelSettings = ModelSettings()
    deliver: DeliverSettings = DeliverSettings()
    work: WorkSettings = WorkSettings()
    flower: FlowerSettings = FlowerSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @property
    def received_dir(self) -> Path:
        """Where arrived instances lie: the listener and the watch folder write here, nobody else."""
        return self.data_dir / "received"

    @property
    def cases_dir(self) -> Path:
        """One folder per case."""
        return self.data_dir / "cases"

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
