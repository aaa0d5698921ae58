"""Settings of the destinations: a section per kind, and `DeliverSettings` with them all.

A new kind of destination needs a section here, a field of `DeliverSettings`, and a module in `outputs.destinations`. The section
is here because every program checks and documents the settings, and only the workers load `outputs`.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.section import AeTitle, Port, Section, TlsFiles
from corewatch.destinations import FOLDER, OPERATORS, WEBHOOK_NOTICES, Turn, is_reserved
from corewatch.foldername import fields_of


class DestinationSection(Section):
    """Settings of a destination, with what the planning of deliveries must know of it."""

    turn: ClassVar[Turn]
    """When a result is delivered to it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its destinations, except those that `corewatch.destinations` reserves."""
        return ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Names of its destinations that get a case which ends without a finding (`not_analysed` or `failed`)."""
        return ()

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Names of those that further get a case which a stage ends `not_analysed`."""
        return ()


class PacsSettings(DestinationSection):
    """A PACS that gets the results."""

    turn: ClassVar[Turn] = Turn.PACS

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    ae_title: AeTitle
    host: str
    port: Port
    our_ae_title: AeTitle | None = None
    """Calling AE title; None: the listener's."""
    tls: TlsFiles | None = None
    objects: tuple[Literal["sc", "seg", "pmap", "sr", "kos"], ...] = Field(("sc", "seg", "sr"), min_length=1)
    """Kinds of objects this PACS gets. `sc`: summary page and overlay slices as Secondary Captures; `seg`: outline of the core on
    the source's slices as a Segmentation; `pmap`: the core map itself as a Parametric Map; `sr`: the figures as a structured report
    (TID 1500); `kos`: a Key Object Selection that points at the summary page. What cannot be made for a case is left out."""
    not_analysed: bool = False
    """Also send the page that says why a series was not analysed. What no rule takes for a CTA head stays out of the PACS."""
    commitment: bool = False
    """Ask it to confirm that it keeps what it has stored (storage commitment); only then is the result `sent`. It answers on the
    same association or on one of its own to our listener, so that `listener.peers` must name it."""
    commitment_wait_s: float = Field(2.0, ge=0)
    """How long that association is kept open for the answer, for a PACS that answers on no other."""
    commitment_patience_h: float = Field(24.0, gt=0)
    """After so long without an answer an operator must look."""
    timeout_s: float = Field(30.0, gt=0)

    @property
    def names(self) -> tuple[str, ...]:
        """Its `name`."""
        return (self.name,)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Itself, where it asks for the page that says why."""
        return (self.name,) if self.not_analysed else ()


class DicomwebSettings(DestinationSection):
    """An archive that gets the results over the web (STOW-RS)."""

    turn: ClassVar[Turn] = Turn.DICOMWEB

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    url: str = Field(pattern=r"^https?://[^\s?#]+$")
    """Address of the DICOMweb service, up to and without `/studies`."""
    user: str | None = None
    password: SecretStr | None = None
    authority: Path | None = None
    """PEM of the authority of the server's certificate; None: the public ones."""
    certificate: Path | None = None
    """Our own certificate (PEM), for a server that asks for one."""
    key: Path | None = None
    objects: tuple[Literal["sc", "seg", "pmap", "sr", "kos"], ...] = Field(("sc", "seg", "sr"), min_length=1)
    """Kinds of objects this archive gets, as for a PACS."""
    not_analysed: bool = False
    """Also send the page that says why a series was not analysed, as for a PACS."""
    timeout_s: float = Field(30.0, gt=0)

    @property
    def names(self) -> tuple[str, ...]:
        """Its `name`."""
        return (self.name,)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Itself, where it asks for the page that says why."""
        return (self.name,) if self.not_analysed else ()


class ResultSeries(Section):
    """How the series of our DICOM objects stand in a study."""

    number: int = Field(9700, ge=1, le=2_000_000_000)
    """Series Number of the Secondary Captures. Segmentation, map, report and key object follow at 20, 40, 60 and 80 more, a later
    revision at 1 more."""
    description: str = Field("{object} (research only)", max_length=64)
    """What follows "corewatch ischemic core" in the Series Description, in ASCII; `{object}` stands for summary, segmentation, map,
    report or key image. The beginning is fixed: by it results are known when the PACS sends them back."""
    manufacturer: str = Field("corewatch", min_length=1, max_length=64, pattern=r"^[ -~]*$")
    """Manufacturer of the result objects, in ASCII."""

    @field_validator("description")
    @classmethod
    def _knows_its_field(cls, value: str) -> str:
        try:
            value.format(object="")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError("knows the field {object} alone; a brace of its own is written twice") from None
        return value


class FolderSettings(DestinationSection):
    """Where finished cases are copied to."""

    turn: ClassVar[Turn] = Turn.FOLDER

    path: Path = Path("./results")
    pattern: str = Field("{case_id}", max_length=200)
    """Name of a case's folder, with `/` for folders within; it ends with `{case_id}`. Further fields: `{date}` of arrival, `{side}`
    (left, right, none), `{alert}` (alert, no-alert, not-analysed), `{revision}`; and, only where patient data may stand in names,
    `{patient_id}`, `{accession_number}`, `{study_date}`."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The folder gets every case."""
        return (FOLDER,)

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        fields_of(value)
        return value


class MailList(Section):
    """Recipients with a `when` of their own; they get one message together and see each other's addresses."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    to: tuple[str, ...] = Field(min_length=1)
    when: Literal["always", "positive", "never"] = "always"


class EmailSettings(DestinationSection):
    """The stroke team's and the operators' mail."""

    turn: ClassVar[Turn] = Turn.MAIL

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
    """Which results the list `to` gets: all, alerts alone, or none."""
    lists: tuple[MailList, ...] = ()
    """More lists for results. Who stands in several gets one mail."""
    patient_fields: tuple[str, ...] = ()
    """DICOM keywords (such as PatientID) that may stand in the mail's body. Never in its subject."""
    max_per_hour: int = Field(30, ge=2)
    """Mails to the stroke team, and as many to the operators, in any hour. What is too much for it goes out in one digest."""
    digest_every_min: float = Field(15.0, gt=0)
    """After a digest nothing but recent alerts goes out for so long."""
    alert_alone_h: float = Field(12.0, ge=0)
    """An alert whose last image is younger goes out alone and at once, however many there are."""
    authority: Path | None = None
    """PEM of the authority of the server's certificate; None: the system's."""
    timeout_s: float = Field(20.0, gt=0)

    @property
    def server(self) -> str:
        """The mail server as messages name it."""
        return f"mail server {self.host}:{self.port}"

    @property
    def notices(self) -> tuple[str, ...]:
        """The operators' mail."""
        return (OPERATORS,)


class WebhookSettings(DestinationSection):
    """A program of the hospital's own that gets each result as a signed HTTP request (Standard Webhooks)."""

    turn: ClassVar[Turn] = Turn.WEBHOOK

    url: str
    """`https://...`; plain `http://` on this machine only. Redirects are not followed."""
    secret: SecretStr
    """Key of the signature, at least 16 characters; `whsec_` and base64, or any text."""
    when: Literal["always", "positive", "never"] = "positive"
    not_analysed: bool = False
    """Also tell of what was not analysed and what failed."""
    authority: Path | None = None
    """PEM of the authority of the server's certificate; None: the system's."""
    timeout_s: float = Field(10.0, gt=0)

    @property
    def server(self) -> str:
        """The receiver as messages name it: without the path, which may hold a secret."""
        parts = urlsplit(self.url)
        return f"webhook {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    @property
    def notices(self) -> tuple[str, ...]:
        """The notices, where they are asked for."""
        return (WEBHOOK_NOTICES,) if self.not_analysed else ()

    @field_validator("url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if not parts.hostname or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and here)):
            raise ValueError("must be https:// and name a host (http:// on this machine only), without user or password")
        return value

    @field_validator("secret")
    @classmethod
    def _is_long(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if len(text.removeprefix("whsec_")) < 16:
            raise ValueError("needs at least 16 characters")
        if text.startswith("whsec_"):
            try:
                base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except ValueError:
                raise ValueError("after whsec_ must come base64") from None
        return value


class EscalationLevel(DestinationSection):
    """Who is told next when nobody has acknowledged a positive alert."""

    turn: ClassVar[Turn] = Turn.ESCALATION

    after_min: float = Field(gt=0)
    """Minutes after the finding."""
    to: tuple[str, ...] = Field(min_length=1)


class DeliverSettings(Section):
    """Where results go."""

    pacs: tuple[PacsSettings, ...] = ()
    dicomweb: tuple[DicomwebSettings, ...] = ()
    folder: FolderSettings | None = FolderSettings()
    email: EmailSettings | None = None
    series: ResultSeries = ResultSeries()
    webhook: WebhookSettings | None = None
    escalation: tuple[EscalationLevel, ...] = ()
    """Mails to further lists as long as a positive alert is not acknowledged (`portal` serves the page for that); needs `email`."""
    give_up_h: float = Field(48.0, gt=0)
    """A destination that is away is tried for so long, then an operator must look."""
    attempts: int = Field(8, ge=1)
    """Attempts that may end in an error of corewatch's own, or with a killed worker, before an operator must look."""
    backoff_s: float = Field(5.0, gt=0)
    """Wait after the first failed attempt. Later ones wait as long again as has passed since the first: 5, 10, 20 s ..."""
    backoff_max_s: float = Field(3600.0, gt=0)
    """The longest wait."""

    @property
    def destinations(self) -> tuple[DestinationSection, ...]:
        """The sections of all destinations that are set, in the order in which a result is delivered to them."""
        values = (getattr(self, name) for name in type(self).model_fields)
        sections = (one for value in values for one in (value if isinstance(value, tuple) else (value,)))
        return tuple(sorted((one for one in sections if isinstance(one, DestinationSection)), key=lambda one: one.turn))

    @property
    def notices(self) -> tuple[str, ...]:
        """Names of the destinations that get a case which ends without a finding (`not_analysed` or `failed`)."""
        return tuple(name for one in self.destinations for name in one.notices)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Those, and each PACS or archive that wants the page of a case which a stage ends `not_analysed`."""
        return self.notices + tuple(name for one in self.destinations for name in one.not_analysed_notices)

    @model_validator(mode="after")
    def _names_are_unique(self) -> DeliverSettings:
        names = [name for one in self.destinations for name in one.names]
        lists = [one.name for one in self.email.lists] if self.email else []
        if len(set(lists)) != len(lists) or {"team", "sender", "operators"} & set(lists):
            raise ValueError("each of email.lists needs a name of its own, other than team, sender and operators")
        waits = [level.after_min for level in self.escalation]
        if waits != sorted(set(waits)) or (waits and self.email is None):
            raise ValueError("each level of escalation must come after the one before it, and all need deliver.email")
        if len(set(names)) != len(names) or any(map(is_reserved, names)):
            raise ValueError(
                "each of pacs and dicomweb needs a name of its own, other than folder, email, operators, webhook, webhook-notices "
                "and escalation-..."
            )
        return self
