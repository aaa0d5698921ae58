"""Checks of corewatch's own services on this machine: listener, broker, ledger, queue monitor, portal."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from cli.checks.report import Check
from config.portal import PortalSettings
from config.settings import Settings
from corewatch.errors import ConfigurationError, CorewatchError
from corewatch.states import CaseState
from corewatch.waiting import Wait, oldest_of_each_state
from jobs.redis_binary import RedisBinary

_LIMIT_S = 5.0


def listener(settings: Settings) -> Iterator[Check]:
    """The listener's port is free, or our listener answers there."""
    subject, ours = "listener", settings.listener
    where = f"{ours.ae_title} at {ours.host}:{ours.port}"
    if not ours.peers:
        yield Check.warning(
            "senders",
            "only programs on this machine may send (listener.peers is empty)",
            "name the PACS and scanners in listener.peers",
        )
    if ours.tls is not None:
        missing = [str(f) for f in (ours.tls.certificate, ours.tls.key, ours.tls.authority) if not f.is_file()]
        if missing:
            yield Check.error(subject, f"TLS files are missing: {', '.join(missing)}", "copy them there, or correct listener.tls")
    if _can_bind(ours.host, ours.port):
        yield Check.ok(subject, f"{where}: the port is free, the listener does not run")
        return
    from foundation.dicom_client.association import AssociationRejected
    from foundation.dicom_client.storage import echo

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ours.host, ours.host)
    tls = None if ours.tls is None else replace(ours.tls.for_client, check_hostname=False)  # itself, at any of its addresses
    calling = ours.peers[0].ae_title if ours.peers else "CWDOCTOR"
    try:
        echo(host=host, port=ours.port, called_ae=ours.ae_title, calling_ae=calling, timeout_s=_LIMIT_S, tls=tls)
    except AssociationRejected:
        yield Check.ok(subject, f"{where}: runs; it does not accept this machine as a sender")
    except CorewatchError as error:
        yield Check.error(
            subject,
            f"{where}: the port is in use, and no DICOM listener answers there: {error}",
            "stop the program that uses the port, or choose another one in listener.port",
        )
    else:
        yield Check.ok(subject, f"{where}: runs and answers C-ECHO")


def broker(settings: Settings) -> Iterator[Check]:
    """The broker answers, and takes work: it is neither a read-only replica nor full."""
    from redis.exceptions import RedisError

    from cli.data_folder import broker_url
    from foundation.lock import UP_LOCK, is_locked
    from jobs.broker_url import write_problem
    from jobs.redis_binary import redis_binary

    subject, private = "broker", settings.broker.url is None
    try:
        url = broker_url(settings)
    except ConfigurationError:
        if not private:  # the check of the settings says what is wrong with the URL
            return
        try:
            binary = redis_binary()
        except ConfigurationError as error:
            yield Check.error(subject, error.problem, error.remedy)
        else:
            yield Check.ok(subject, f"a private Redis ({binary}), started by `corewatch up`; not running now")
            yield from _old_redis(binary)
        return
    name = "the private Redis" if private else "the Redis of broker.url"
    try:
        version, problem = write_problem(url, _LIMIT_S)
    except (RedisError, OSError, ValueError) as error:
        lock, found = settings.data_dir / UP_LOCK, f"{name} does not answer, or rejects the login ({type(error).__name__})"
        if not private:
            remedy = "start it, or correct broker.url" + (" and broker.authority" if url.startswith("rediss:") else "")
            yield Check.error(subject, found, remedy)
        elif lock.exists() and is_locked(lock):
            yield Check.error(subject, found, "wait a minute: `corewatch up` restarts it")
        else:
            yield Check.warning(subject, found, "start `corewatch up` again")
        return
    if problem is None:
        yield Check.ok(subject, f"{name} (version {version}) answers and takes work")
    else:
        yield Check.error(subject, f"{name} takes no work: {problem}", "give it memory and disk, or name the primary in broker.url")
    if private:
        yield from _old_redis(redis_binary())


def _old_redis(binary: RedisBinary) -> Iterator[Check]:
    if not binary.is_systems:
        yield Check.warning("broker", f"the private Redis is {binary}", "install redis-server or valkey-server, or set broker.url")


def ledger(settings: Settings) -> Iterator[Check]:
    """The database opens, and its tables are those of this version. Changes nothing, so that it never migrates a ledger."""
    from sqlalchemy.exc import SQLAlchemyError

    from ledger.database import Database
    from ledger.schema import MISMATCH_REMEDY
    from ledger.store import Ledger

    subject = "ledger"
    if settings.database.url is None and not (settings.data_dir / "ledger.sqlite").exists():
        yield Check.ok(subject, "SQLite in the data folder, not created yet")
        return
    try:
        database = Database(settings.database_url, prepare=False)
        try:
            schema = database.schema_status()
        finally:
            database.close()
        if schema.revision is None:
            yield Check.ok(subject, "the database is empty; the tables will be made")
            return
        if not schema.is_current:
            older = f"an earlier version wrote it (layout {schema.revision}); the next program that starts brings it up to date"
            yield Check.warning(subject, older, "back it up first if you may want to go back to the earlier version")
            return
        if schema.differences:
            yield from (Check.error(subject, str(difference), MISMATCH_REMEDY) for difference in schema.differences)
            return
        opened = Ledger(settings.database_url)
        try:
            failed = opened.cases.find(states=[CaseState.FAILED])
            waits = oldest_of_each_state(opened.waiting_cases(), opened.clock())
        finally:
            opened.close()
    except ConfigurationError as error:
        yield Check.error(subject, error.problem, error.remedy)
        return
    except (SQLAlchemyError, OSError) as error:
        what = str(getattr(error, "orig", None) or error).splitlines()[0]
        yield Check.error(
            subject, f"the database cannot be opened: {what}", "check that it runs, and correct database.url or the access rights"
        )
        return
    yield Check.ok(subject, "the database opens, and its tables are those of this version")
    yield from _waits(waits, timedelta(minutes=settings.work.alarm_min))
    if failed:
        yield Check.warning(
            "cases",
            f"{len(failed)} failed and need an operator",
            "see `corewatch cases list --state failed`, then retry",
        )


def _waits(waits: Mapping[CaseState, Wait], limit: timedelta) -> Iterator[Check]:
    """Age of the oldest case in each state; older than `work.alarm_min` is an error."""
    for state, wait in waits.items():
        minutes = int(wait.age.total_seconds() // 60)
        found = f"{wait.count} {'wait' if wait.count > 1 else 'waits'}, the oldest, {wait.oldest.case_id}, for {minutes} min"
        if wait.oldest.destination:
            found += f" for the destination {wait.oldest.destination}"
        if wait.age < limit:
            yield Check.ok(f"cases {state}", found)
        else:
            remedy = f"see `corewatch cases show {wait.oldest.case_id}`, and the log of the program that has to take it"
            yield Check.error(f"cases {state}", found, remedy)


def monitor(settings: Settings) -> Iterator[Check]:
    """The queue monitor's port is free, or the monitor answers there."""
    subject, flower = "queue monitor", settings.flower
    where = f"http://{flower.host}:{flower.port}"
    if _can_bind(flower.host, flower.port):
        yield Check.ok(subject, f"{where}: the port is free, the monitor does not run")
        return
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection({"0.0.0.0": "127.0.0.1"}.get(flower.host, flower.host), flower.port, timeout=_LIMIT_S)
    try:
        prefix = f"/{flower.url_prefix}" if flower.url_prefix else ""
        connection.request("GET", f"{prefix}/healthcheck")
        answer = connection.getresponse().read(10)
    except (OSError, HTTPException):
        answer = b""
    finally:
        connection.close()
    if answer == b"OK":
        yield Check.ok(subject, f"{where}: runs")
    else:
        yield Check.error(subject, f"{where}: another program uses the port", "stop it, or choose another one in flower.port")


def portal(settings: Settings) -> Iterator[Check]:
    """The portal is reachable over TLS, so that links in mails open and escalations can be acknowledged."""
    subject, ours = "portal", settings.portal
    if ours is None or ours.url is None:
        if settings.deliver.escalation:
            remedy = "set portal.url and run `corewatch portal`, or have everybody use `corewatch cases acknowledge`"
            yield Check.warning(subject, "alerts are escalated, and mails have no link to acknowledge them", remedy)
        return
    if not ours.url.startswith("https://"):
        yield Check.warning(
            subject, f"{ours.url} is not encrypted", "put a reverse proxy with TLS in front of it, or set portal.certificate"
        )
    yield from _portal_sign_in(ours)
    if _can_bind(ours.host, ours.port):
        yield Check.warning(subject, f"nothing listens at {ours.host}:{ours.port}", "run `corewatch up` or `corewatch portal`")
    else:
        yield Check.ok(subject, f"{ours.host}:{ours.port} is served; links in mails open {ours.url}")


def _portal_sign_in(ours: PortalSettings) -> Iterator[Check]:
    """Behind a proxy each reader keeps an own address, and readers can sign in."""
    if ours.secure and ours.certificate is None and not ours.proxies:
        yield Check.warning(
            "portal",
            "portal.url is https, so a proxy is in front of it, but portal.proxies is empty: all readers seem to have one address",
            "name the proxy's address in portal.proxies, such as [127.0.0.1]",
        )
    if not ours.may_sign_in:
        yield Check.warning("portal", "nobody can sign in without https", "give portal.url an https address")


def _can_bind(host: str, port: int) -> bool:
    if port == 0:
        return True
    with _socket_for(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


@contextmanager
def _socket_for(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        yield made
