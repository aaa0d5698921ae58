"""The destinations that the settings name."""

from __future__ import annotations

from datetime import timedelta

from config.delivery import DicomwebSettings, EmailSettings, PacsSettings, WebhookSettings
from config.section import TlsFiles as TlsSettings
from config.settings import Settings
from foundation.dicom_client.association import TlsFiles
from foundation.keys import own_key
from outputs.destinations.base import Destination
from outputs.destinations.dicomweb import DicomwebParameters
from outputs.destinations.email import EmailParameters, MailList
from outputs.destinations.folder import FolderParameters
from outputs.destinations.pacs import CommitmentTerms, PacsParameters
from outputs.destinations.receipts import Receipts
from outputs.destinations.registry import DestinationParameters, build_destinations
from outputs.destinations.stow import WebServer
from outputs.destinations.webhook import WebhookParameters, secret_bytes
from outputs.dicom.object_kinds import SeriesNaming
from outputs.links import Links
from outputs.mail.smtp import MailServer


def destinations_of(settings: Settings, receipts: Receipts | None = None) -> dict[str, Destination]:
    """All destinations by name; see `outputs.destinations.registry.build_destinations`.

    Without `receipts` they are good for connection tests.
    """
    deliver = settings.deliver
    email = None if deliver.email is None else _email(deliver.email, settings, checks_only=receipts is None)
    return build_destinations(
        DestinationParameters(
            pacs=tuple(_pacs(p, settings.listener.ae_title) for p in deliver.pacs),
            dicomweb=tuple(_dicomweb(archive) for archive in deliver.dicomweb),
            folder=None if deliver.folder is None else FolderParameters(deliver.folder.path, deliver.folder.pattern),
            email=email,
            webhook=None if deliver.webhook is None else _webhook(deliver.webhook),
            escalation=tuple(level.to for level in deliver.escalation),
        ),
        receipts=receipts,
    )


def naming_of(settings: Settings) -> SeriesNaming:
    """How the series of our DICOM objects stand in a study."""
    series = settings.deliver.series
    return SeriesNaming(series.number, series.description, series.manufacturer)


def _webhook(webhook: WebhookSettings) -> WebhookParameters:
    return WebhookParameters(
        url=webhook.url,
        secret=secret_bytes(webhook.secret.get_secret_value()),
        when=webhook.when,
        not_analysed=webhook.not_analysed,
        authority=webhook.authority,
        timeout_s=webhook.timeout_s,
    )


def _pacs(pacs: PacsSettings, listener_ae_title: str) -> PacsParameters:
    return PacsParameters(
        name=pacs.name,
        ae_title=pacs.ae_title,
        host=pacs.host,
        port=pacs.port,
        our_ae_title=pacs.our_ae_title or listener_ae_title,
        timeout_s=pacs.timeout_s,
        tls=_tls(pacs.tls),
        objects=pacs.objects,
        not_analysed=pacs.not_analysed,
        commitment=(
            CommitmentTerms(pacs.commitment_wait_s, timedelta(hours=pacs.commitment_patience_h)) if pacs.commitment else None
        ),
    )


def _dicomweb(archive: DicomwebSettings) -> DicomwebParameters:
    server = WebServer(
        url=archive.url,
        user=archive.user,
        password=None if archive.password is None else archive.password.get_secret_value(),
        authority=archive.authority,
        certificate=archive.certificate,
        key=archive.key,
        timeout_s=archive.timeout_s,
    )
    return DicomwebParameters(archive.name, server, archive.objects, archive.not_analysed)


def _email(email: EmailSettings, settings: Settings, *, checks_only: bool) -> EmailParameters:
    """`checks_only`: no keys are made or read."""
    links = None
    if settings.portal is not None and settings.portal.url is not None and not checks_only:
        links = Links(settings.portal.link_key(settings.data_dir), settings.portal.url).to
    return EmailParameters(
        server=MailServer.from_settings(email),
        sender=email.sender,
        to=email.to,
        operators=email.operators,
        when=email.when,
        lists=tuple(MailList(one.name, one.to, one.when) for one in email.lists),
        thread_key=b"" if checks_only else own_key(settings.data_dir, "mail threads"),
        link=links,
        patient_fields=email.patient_fields,
    )


def _tls(tls: TlsSettings | None) -> TlsFiles | None:
    return None if tls is None else TlsFiles(certificate=tls.certificate, key=tls.key, authority=tls.authority)
