"""What the programs keep and show, looked at from outside: the queue, the monitor, the links in mails; and time that passes."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import redis
import requests
from sqlalchemy import create_engine, update

from config.settings import Settings
from jobs.embedded import running_url
from ledger.tables import escalations


def link_in(mail: EmailMessage) -> str:
    """The link to the case's page."""
    body = mail.get_body(("plain",))
    assert body is not None
    found = re.search(r"https?://\S+/a/\S+", body.get_content())
    assert found is not None
    return found[0]


def let_time_pass(database_url: str, case_id: str, level: int) -> None:
    """A level of an alert's escalation is due now, as if its minutes were over."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        mine = escalations.c.case_id == case_id, escalations.c.level == level
        assert connection.execute(update(escalations).where(*mine).values(due_at=datetime(2020, 1, 1, tzinfo=UTC))).rowcount == 1
    engine.dispose()


def redis_holds(folder: Path) -> bytes:
    """All keys with their values, and all that was ever written (the append-only file), messages decoded."""
    url = running_url(folder)
    assert url is not None
    client = redis.Redis.from_url(url)
    held: list[bytes] = []
    for key in client.scan_iter("*"):
        kind = client.type(key).decode()
        value = {
            "string": client.get, "hash": client.hgetall, "set": client.smembers,
            "list": lambda one: client.lrange(one, 0, -1), "zset": lambda one: client.zrange(one, 0, -1),
        }[kind](key)  # fmt: skip
        held += [key, repr(value).encode()]
    client.close()
    written = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.aof")))
    assert written
    everything = b"\n".join([*held, written])
    bodies = [base64.b64decode(body) for body in re.findall(rb'"body": ?"([A-Za-z0-9+/=]+)"', everything)]
    assert bodies
    return b"\n".join([everything, *bodies])


def flower_shows(settings: Settings) -> bytes:
    """Its pages and its API: all tasks, each of the last, all workers, the broker."""
    password = (settings.data_dir / "flower-password").read_text().strip()
    with requests.Session() as session:
        session.auth = (settings.flower.user, password)
        at = f"http://127.0.0.1:{settings.flower.port}"
        tasks = session.get(f"{at}/api/tasks?limit=10000", timeout=30).json()
        workers = session.get(f"{at}/api/workers?refresh=1", timeout=30).json()
        assert tasks
        assert workers
        pages = ["/api/tasks?limit=10000", "/api/workers", "/workers", "/tasks", "/broker", "/metrics"]
        pages += [f"/task/{name}" for name in list(tasks)[:20]] + [f"/worker/{name}" for name in workers]
        shown = [session.get(at + page, timeout=30) for page in pages]
    assert [answer.url for answer in shown if answer.status_code != 200] == []
    return b"\n".join(answer.content for answer in shown)
