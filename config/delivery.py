"""Settings of the destinations: one section per kind, and `DeliverSettings` with all of them.

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
from corewatch.destinations import (
    FOLDER,
    MAIL_REFUSAL,
    OPERATORS,
    WEBHOOK_NOTICES,
    WEBHOOK_REFUSAL,
    Turn,
    is_reserved,
)
from corewatch.foldername import fields_of


class DestinationSection(Section):
    """Base of a destination's settings, with what the planning of deliveries needs to know."""

    turn: ClassVar[Turn]
    """Place in the order of deliveries."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its destinations, without those that `corewatch.destinations` reserves."""
        return ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Names of its destinations that receive cases without a finding (`not_analysed` or `failed`)."""
        return ()

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Names of its destinations that also receive the page of a case that a stage ended `not_analysed`."""
        return ()

    @property
    def refusal_reporters(self) -> tuple[str, ...]:
        """What reports at once that another destination refused a result (`corewatch.destinations`)."""
        return ()


class PacsSettings(DestinationSection):
    """A PACS that receives the results (C-STORE)."""

    turn: ClassVar[Turn] = Turn.PACS

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name of the destination in the ledger, in logs and messages."""
    ae_title: AeTitle
    """AE title of the PACS."""
    host: str
    port: Port
    our_ae_title: AeTitle | None = None
    """Calling AE title; null: that of the listener."""
    tls: TlsFiles | None = None
    objects: tuple[Literal["sc", "seg", "pmap", "sr", "kos"], ...] = Field(("sc", "seg", "sr"), min_length=1)
    """Kinds of objects to send. `sc`: summary page and overlay slices as Secondary Captures; `seg`: outline of the core on the
    source slices as a Segmentation; `pmap`: the core map as a Parametric Map; `sr`: the measurements as a structured report (TID
    1500); `kos`: a Key Object Selection that references the summary page. Objects that cannot be made for a case are left out."""
    not_analysed: bool = False
    """Also send a page with the reason why a series was not analysed. Series that no rule selects as a CTA head are not
    reported."""
    commitment: bool = False
    """Request storage commitment; the delivery is `sent` only after the PACS has committed. The PACS answers on the same
    association or opens one to the listener, so `listener.peers` must contain it."""
    commitment_wait_s: float = Field(2.0, ge=0)
    """Seconds for which the association stays open for the answer, for a PACS that answers on the same one."""
    commitment_patience_h: float = Field(24.0, gt=0)
    """Hours without an answer after which the delivery ends `refused` and an operator is needed."""
    timeout_s: float = Field(30.0, gt=0)
    """Seconds to wait for a connection, and for the answer to each object."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its `name`."""
        return (self.name,)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Its `name`, if `not_analysed` is set."""
        return (self.name,) if self.not_analysed else ()


class DicomwebSettings(DestinationSection):
    """An archive that receives the results by DICOMweb (STOW-RS)."""

    turn: ClassVar[Turn] = Turn.DICOMWEB

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name of the destination in the ledger, in logs and messages."""
    url: str = Field(pattern=r"^https?://[^\s?#]+$")
    """Base URL of the DICOMweb service, without `/studies`."""
    user: str | None = None
    """User name (HTTP basic authentication)."""
    password: SecretStr | None = None
    """Password of `user`."""
    authority: Path | None = None
    """CA certificate (PEM) that the server's certificate must come from; null: the public CAs."""
    certificate: Path | None = None
    """Client certificate (PEM), if the server requires one; needs `key`."""
    key: Path | None = None
    """Private key (PEM) of the client certificate."""
    objects: tuple[Literal["sc", "seg", "pmap", "sr", "kos"], ...] = Field(("sc", "seg", "sr"), min_length=1)
    """Kinds of objects to send, as for a PACS."""
    not_analysed: bool = False
    """Also send a page with the reason why a series was not analysed, as for a PACS."""
    timeout_s: float = Field(30.0, gt=0)
    """Seconds to wait for a connection and for an answer."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its `name`."""
        return (self.name,)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """Its `name`, if `not_analysed` is set."""
        return (self.name,) if self.not_analysed else ()


class ResultSeries(Section):
    """The series of the DICOM result objects in the patient's study."""

    number: int = Field(9700, ge=1, le=2_000_000_000)
    """Series Number of the Secondary Captures. Segmentation, map, report and key object use 20, 40, 60 and 80 more, each further
    revision 1 more."""
    description: str = Field("{object} (research only)", max_length=64)
    """Text after "corewatch ischemic core" in the Series Description, in ASCII; `{object}` is replaced by summary, segmentation,
    map, report or key image. The fixed beginning identifies results that the PACS sends back."""
    manufacturer: str = Field("corewatch", min_length=1, max_length=64, pattern=r"^[ -~]*$")
    """Manufacturer of the result objects, in ASCII."""

    @field_validator("description")
    @classmethod
    def _knows_its_field(cls, value: str) -> str:
        try:
            value.format(object="")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError("the only field is {object}; write a literal brace twice") from None
        return value


class FolderSettings(DestinationSection):
    """A folder that finished cases are copied to."""

    turn: ClassVar[Turn] = Turn.FOLDER

    path: Path = Path("./results")
    """The folder, such as a network share."""
    pattern: str = Field("{case_id}", max_length=200)
    """Name of a case's folder; `/` makes subfolders. It must end with `{case_id}`. Further fields: `{date}` of arrival, `{side}`
    (left, right, none), `{alert}` (alert, no-alert, not-analysed), `{revision}`; and, only if folder names may contain patient
    data, `{patient_id}`, `{accession_number}`, `{study_date}`."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The folder receives every case."""
        return (FOLDER,)

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        fields_of(value)
        return value


class MailList(Section):
    """A mail list with its own `when`. Its recipients get one mail together and see each other's addresses."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Name of the list."""
    to: tuple[str, ...] = Field(min_length=1)
    """Mail addresses."""
    when: Literal["always", "positive", "never"] = "always"
    """Which results the list receives: all, alerts and a suspected haemorrhage only, or none."""


class EmailSettings(DestinationSection):
    """Mail to the stroke team and the operators (SMTP)."""

    turn: ClassVar[Turn] = Turn.MAIL

    host: str
    """Mail server."""
    port: Port = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    """Encryption of the connection."""
    user: str | None = None
    """User name, if the server requires a login."""
    password: SecretStr | None = None
    """Password of `user`."""
    sender: str = Field(alias="from")
    """Sender address."""
    to: tuple[str, ...] = ()
    """Addresses of the stroke team, who receive results."""
    operators: tuple[str, ...] = ()
    """Addresses of the operators, who receive cases that failed or were not analysed, and notices about the site (a full disk, a
    missing model). Empty: the addresses of `to` receive them; if that is empty too, those of `lists`."""
    when: Literal["always", "positive", "never"] = "always"
    """Which results the list `to` receives: all, alerts and a suspected haemorrhage only, or none."""
    lists: tuple[MailList, ...] = ()
    """Further lists for results. An address in several lists gets one mail."""
    patient_fields: tuple[str, ...] = ()
    """DICOM keywords (such as PatientID) whose values may appear in the body of a mail; never in its subject."""
    max_per_hour: int = Field(30, ge=2)
    """Largest number of mails to the stroke team in an hour, and the same number to the operators. Further cases are sent as a
    digest."""
    digest_every_min: float = Field(15.0, gt=0)
    """Minutes after a digest in which only recent alerts are mailed."""
    alert_alone_h: float = Field(12.0, ge=0)
    """Hours since the last image within which an alert is mailed at once in its own mail, whatever the number of mails."""
    authority: Path | None = None
    """CA certificate (PEM) that the server's certificate must come from; null: the system's CAs."""
    timeout_s: float = Field(20.0, gt=0)
    """Seconds to wait for a connection and for an answer."""

    @property
    def server(self) -> str:
        """Name of the mail server in messages."""
        return f"mail server {self.host}:{self.port}"

    @property
    def operator_addresses(self) -> tuple[str, ...]:
        """Who receives what the operators must know: `operators`, else `to`, else everybody in `lists`."""
        return self.operators or self.to or tuple(dict.fromkeys(address for one in self.lists for address in one.to))

    @property
    def notices(self) -> tuple[str, ...]:
        """The operators' mail."""
        return (OPERATORS,)

    @property
    def refusal_reporters(self) -> tuple[str, ...]:
        """The operators' mail."""
        return (MAIL_REFUSAL,)


class WebhookSettings(DestinationSection):
    """A program of the hospital that receives each result as a signed HTTP request (Standard Webhooks)."""

    turn: ClassVar[Turn] = Turn.WEBHOOK

    url: str
    """`https://...`; `http://` only on this host. Redirects are not followed."""
    secret: SecretStr
    """Key that signs the requests, at least 16 characters: `whsec_` and base64, or any text."""
    when: Literal["always", "positive", "never"] = "positive"
    """Which results it receives: all, alerts and a suspected haemorrhage only, or none."""
    not_analysed: bool = False
    """Also send cases that failed or were not analysed."""
    authority: Path | None = None
    """CA certificate (PEM) that the server's certificate must come from; null: the system's CAs."""
    timeout_s: float = Field(10.0, gt=0)
    """Seconds to wait for a connection and for an answer."""

    @property
    def server(self) -> str:
        """Name of the receiver in messages, without the path, which may contain a secret."""
        parts = urlsplit(self.url)
        return f"webhook {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    @property
    def notices(self) -> tuple[str, ...]:
        """The destination of its notices, if `not_analysed` is set."""
        return (WEBHOOK_NOTICES,) if self.not_analysed else ()

    @property
    def refusal_reporters(self) -> tuple[str, ...]:
        """Its request about a refusal, if `not_analysed` is set."""
        return (WEBHOOK_REFUSAL,) if self.not_analysed else ()

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
    """Further recipients of an alert that nobody has acknowledged."""

    turn: ClassVar[Turn] = Turn.ESCALATION

    after_min: float = Field(gt=0)
    """Minutes after the finding at which they are mailed."""
    to: tuple[str, ...] = Field(min_length=1)
    """Mail addresses."""


class DeliverSettings(Section):
    """The destinations of results, and the retries of deliveries."""

    pacs: tuple[PacsSettings, ...] = ()
    dicomweb: tuple[DicomwebSettings, ...] = ()
    folder: FolderSettings | None = FolderSettings()
    email: EmailSettings | None = None
    series: ResultSeries = ResultSeries()
    webhook: WebhookSettings | None = None
    escalation: tuple[EscalationLevel, ...] = ()
    """Mails to further recipients while an alert is not acknowledged (on the page that `portal` serves); needs `email`."""
    give_up_h: float = Field(48.0, gt=0)
    """Hours for which a destination that does not answer is retried; after them an operator is needed."""
    attempts: int = Field(8, ge=1)
    """Attempts that may end in an unexpected error, or with a killed worker, before an operator is needed."""
    backoff_s: float = Field(5.0, gt=0)
    """Wait in seconds after the first failed attempt. Each further wait is as long as the time since the first attempt: 5, 10, 20 s
    ..."""
    backoff_max_s: float = Field(3600.0, gt=0)
    """Longest wait in seconds."""

    @property
    def destinations(self) -> tuple[DestinationSection, ...]:
        """Sections of all configured destinations, in the order of delivery."""
        values = (getattr(self, name) for name in type(self).model_fields)
        sections = (one for value in values for one in (value if isinstance(value, tuple) else (value,)))
        return tuple(sorted((one for one in sections if isinstance(one, DestinationSection)), key=lambda one: one.turn))

    @property
    def notices(self) -> tuple[str, ...]:
        """Names of the destinations that receive cases without a finding (`not_analysed` or `failed`)."""
        return tuple(name for one in self.destinations for name in one.notices)

    @property
    def not_analysed_notices(self) -> tuple[str, ...]:
        """`notices`, and each PACS or archive that receives the page of a case that a stage ended `not_analysed`."""
        return self.notices + tuple(name for one in self.destinations for name in one.not_analysed_notices)

    @property
    def refusal_reporters(self) -> tuple[str, ...]:
        """What reports at once that a destination refused a result."""
        return tuple(name for one in self.destinations for name in one.refusal_reporters)

    @model_validator(mode="after")
    def _names_are_unique(self) -> DeliverSettings:
        names = [name for one in self.destinations for name in one.names]
        lists = [one.name for one in self.email.lists] if self.email else []
        if len(set(lists)) != len(lists) or {"team", "sender", "operators"} & set(lists):
            raise ValueError("the names in email.lists must be unique, and not team, sender or operators")
        waits = [level.after_min for level in self.escalation]
        if waits != sorted(set(waits)) or (waits and self.email is None):
            raise ValueError("each level of escalation must come after the one before it, and all need deliver.email")
        if len(set(names)) != len(names) or any(map(is_reserved, names)):
            raise ValueError(
                "the names in pacs and dicomweb must be unique, and not folder, email, operators, webhook, webhook-notices, "
                "refusal-..., webhook-refusal-... or escalation-..."
            )
        return self
