"""Settings that cannot work are refused by `config check`, each by its key with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.checks.settings import all_mistakes
from cli.command_group import ExitCode
from cli.main import corewatch
from config.loading import load_settings
from config.mistakes import address_problem, host_problem
from config.settings import Settings
from corewatch.errors import ConfigurationError

PEER = {"ae_title": "PACS", "host": "10.0.0.5"}
PACS = {"name": "main", "ae_title": "PACS", "host": "10.0.0.5", "port": 104}
WEB = {"name": "web", "url": "https://archive.hospital.example"}
EMAIL = {"host": "smtp.hospital.example", "from": "corewatch@hospital.example", "to": ["team@hospital.example"]}


def pacs(**values: Any) -> dict[str, Any]:
    return {"deliver": {"pacs": [PACS | values]}}


def email(**values: Any) -> dict[str, Any]:
    return {"deliver": {"email": EMAIL | values}}


def broker(url: str) -> dict[str, Any]:
    return {"broker": {"url": url}}


def database(url: str) -> dict[str, Any]:
    return {"database": {"url": url}}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *(({"listener": {"peers": [PEER | {"host": host}]}}, "listener.peers.0.host", words)
      for host, words in [("http://10.0.0.5", "URL"), ("10.0.0.555", "no IP address"), ("10.0.0.5:104", "port in it"),
                          ("10.0.0.0/33", "no network"), ("", "empty"), (" ", "empty"), ("pa cs", "no host name"),
                          ("0.0.0.0", "no address of a peer"), ("[::1]:104", "port in it"), ("fe80:::1", "no IP address")]),
    ({"listener": {"peers": [PEER | {"port": 0}]}}, "listener.peers.0.port", "0 is no port"),
    ({"listener": {"port": 0}}, "listener.port", "0 is no port"),
    ({"listener": {"host": ""}}, "listener.host", "empty"),
    ({"flower": {"port": 11112}}, "flower.port", "port of listener"),
    ({"portal": {"port": 5555}}, "portal.port", "port of flower"),
    ({"portal": {"port": 9464}}, "portal.metrics_port", "port of portal"),
    ({"listener": {"tls": {"certificate": "/no.pem", "key": "/no.key", "authority": "/no.ca"}}}, "listener.tls.key", "not exist"),
    ({"portal": {"certificate": "/etc/passwd"}}, "portal.certificate_key", "only one"),
    ({"sources": [PACS | {"host": "tcp://x"}]}, "sources.0.host", "URL"),
    (pacs(host=""), "deliver.pacs.0.host", "empty"),
    (pacs(host="10.0.0.0/24"), "deliver.pacs.0.host", "not one host"),
    (pacs(port=0), "deliver.pacs.0.port", "0 is no port"),
    (pacs(host="127.0.0.1", port=11112), "deliver.pacs.0", "own listener"),
    (pacs(host="localhost", port=11112), "deliver.pacs.0", "own listener"),
    ({"deliver": {"folder": {"path": "./data"}}}, "deliver.folder.path", "its own files"),
    ({"deliver": {"folder": {"path": "./data/cases/x"}}}, "deliver.folder.path", "its own files"),
    ({"deliver": {"dicomweb": [WEB | {"user": "u"}]}}, "deliver.dicomweb.0.password", "no password"),
    ({"deliver": {"dicomweb": [WEB | {"password": "p"}]}}, "deliver.dicomweb.0.user", "no user"),
    ({"deliver": {"escalation": [{"after_min": 1, "to": ["x"]}], "email": EMAIL}}, "deliver.escalation.0.to", "no mail address"),
    (email(to=["team"]), "deliver.email.to", "no mail address"),
    (email(to=["a@b.example, c@d.example"]), "deliver.email.to", "no mail address"),
    (email(to=["a@b.example c"]), "deliver.email.to", "no mail address"),
    (email(operators=["a@b c"]), "deliver.email.operators", "no mail address"),
    (email(operators=["a@-.example"]), "deliver.email.operators", "has no domain"),
    (email(operators=["@b.example"]), "deliver.email.operators", "no mail address"),
    (email(lists=[{"name": "x", "to": ["a@"]}]), "deliver.email.lists.0.to", "no mail address"),
    (email(**{"from": "corewatch"}), "deliver.email.from", "no mail address"),
    (email(to=[]), "deliver.email.to", "nobody"),
    (email(patient_fields=["PatientId"]), "deliver.email.patient_fields", "no DICOM keyword"),
    (email(user="u"), "deliver.email.password", "no password"),
    (email(port=465), "deliver.email.security", "465"),
    (email(port=0), "deliver.email.port", "0 is no port"),
    (email(authority="/no.pem"), "deliver.email.authority", "does not exist"),
    ({"audit": {"syslog": {"host": "syslog:6514"}}}, "audit.syslog.host", "port in it"),
    (broker("localhost:6379"), "broker.url", "no scheme"),
    (broker("localhost"), "broker.url", "no scheme"),
    (broker("unix:///run/redis.sock"), "broker.url", "redis+socket:///run/redis.sock"),
    (broker("amqp://guest@host//"), "broker.url", "redis://"),
    (broker("sentinel://host:26379"), "broker.url", "redis://"),
    (broker("redis://host:port/0"), "broker.url", "no URL"),
    (broker("redis://:pa#ss@host/0"), "broker.url", "%23"),
    (broker("redis://host/one"), "broker.url", "number"),
    (broker("redis://a:1/0;redis://b:1/0"), "broker.url", "several"),
    (broker("redis+socket://"), "broker.url", "no socket"),
    (broker("redis:///0"), "broker.url", "no host"),
    (database("postgresql://u:p@host/db"), "database.url", "postgresql+pg8000://"),
    (database("postgres://u:p@host/db"), "database.url", "postgresql+pg8000://"),
    (database("host/db"), "database.url", "postgresql+pg8000://"),
    (database("mysql://host/db"), "database.url", "not supported"),
    (database("postgresql+pg8000://host"), "database.url", "names no database"),
    (database("sqlite://"), "database.url", "names no file"),
]  # fmt: skip

ACCEPTED: list[dict[str, Any]] = [
    {},
    {"listener": {"peers": [PEER, PEER | {"host": "10.0.0.0/24"}, PEER | {"host": "pacs.clinic.example"}, PEER | {"host": "::1"}]}},
    {"listener": {"host": "::"}, "portal": {"host": "127.0.0.1"}},
    pacs(),
    pacs(host="127.0.0.1"),
    email(),
    email(to=["Stroke Team <team@hospital.example>", "jürgen@klinik.example"], patient_fields=["PatientID"]),
    email(to=[], lists=[{"name": "x", "to": ["a@b.example"]}]),
    email(user="u", password="p", port=465, security="tls"),
    {"deliver": {"folder": {"path": "./data/results"}}},
    *(
        broker(url)
        for url in ("redis://h", "redis://:p%23@h:1/2", "rediss://h:1/0", "redis+socket:///run/r.sock", "redis://[::1]:1/0")
    ),
    database("postgresql+pg8000://u:p@host/db"),
    database("sqlite:////var/lib/x.sqlite"),
]


def load(folder: Path, values: dict[str, Any]) -> Settings:
    file = folder / "corewatch.yaml"
    file.write_text(yaml.safe_dump(values))
    return load_settings(file, {})


@pytest.mark.parametrize(("values", "key", "words"), REFUSED)
def test_a_mistake_is_named_by_its_key_with_a_remedy(tmp_path: Path, values: dict[str, Any], key: str, words: str) -> None:
    found = [one for one in all_mistakes(load(tmp_path, values)) if one.key == key]
    assert any(words in f"{one.problem}; {one.remedy}" for one in found), found
    assert all(one.remedy for one in found)


@pytest.mark.parametrize("values", ACCEPTED)
def test_what_works_is_accepted(tmp_path: Path, values: dict[str, Any]) -> None:
    assert all_mistakes(load(tmp_path, values)) == []


def test_config_check_refuses_and_names_every_mistake(tmp_path: Path) -> None:
    load(tmp_path, {"flower": {"port": 11112}, **email(to=["x"])})
    done = CliRunner().invoke(corewatch, ["config", "check", "--config", str(tmp_path / "corewatch.yaml")])
    assert done.exit_code == ExitCode.USAGE
    assert "flower.port" in done.output
    assert "deliver.email.to" in done.output


@pytest.mark.parametrize("text", ["log: {level: INFO}\nlog: {level: DEBUG}\n", "listener:\n  port: 1\n  host: a\n  port: 2\n"])
def test_a_key_that_occurs_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "corewatch.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="occurs twice"):
        load_settings(file, {})


def test_a_secret_is_in_no_message(tmp_path: Path) -> None:
    for url in ("unix://:hidden@/run/redis.sock", "amqp://u:hidden@h", "redis://:hid/den@h", "redis://:hidden@h:x"):
        assert "hid" not in str(all_mistakes(load(tmp_path, broker(url))))
    assert "hid" not in str(all_mistakes(load(tmp_path, database("postgresql://u:hidden@h/d"))))


def test_hosts_and_addresses() -> None:
    assert host_problem("::1") is None
    assert host_problem("klinik-münchen.example") is None
    assert host_problem("0.0.0.0", listens=True) is None
    assert host_problem("a" * 64) is not None
    assert address_problem("o'neil+x@hospital.example") is None
    assert address_problem("x@y@z.example") is not None
