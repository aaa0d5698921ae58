"""Mistakes in settings that are valid as values and still cannot work, each by its key with a remedy."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from email.utils import parseaddr
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from config.folders import real_path
from config.section import Section
from config.settings import Settings

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})
_FILES: Final = frozenset({"certificate", "key", "authority", "certificate_key"})
_IMPLICIT_TLS_PORT: Final = 465


class Mistake(NamedTuple):
    """One mistake: key of the setting, what is wrong, what to write instead."""

    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}; {self.remedy}"


def mistakes(settings: Settings) -> Iterator[Mistake]:
    """Every mistake, in the order of the sections. Looks at files and at this host's addresses, and connects to nothing."""
    sections = list(_sections(settings, ""))
    for path, section in sections:
        yield from _hosts_and_ports(path, section)
    yield from _shared_ports(settings)
    for path, section in sections:
        yield from _files(path, section)
        yield from _login(path, section)
    yield from _ourselves(settings)
    yield from _results_folder(settings)
    yield from _mail(settings)


def host_problem(host: str, *, networks: bool = False, listens: bool = False) -> str | None:
    """Why `host` is neither an address nor a name (nor a network); None if it is one.

    >>> host_problem("http://pacs"), host_problem("10.0.0.555"), host_problem("pacs:104")
    ('is a URL', 'is no IP address', 'has a port in it')
    >>> host_problem("10.0.0.0/24", networks=True), host_problem("pacs.clinic.example"), host_problem("fe80::1%eth0")
    (None, None, None)
    """
    if not host.strip():
        return "is empty"
    if "://" in host:
        return "is a URL"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return "is no address of a peer" if address.is_unspecified and not listens else None
    if "/" in host:
        try:
            ipaddress.ip_network(host)
        except ValueError:
            return "is no network" if networks else "has a path in it"
        return None if networks else "is a network, not one host"
    if host.startswith("[") or re.fullmatch(r"[^:]+:\d*", host):
        return "has a port in it" if not host.endswith("]") else "has brackets"
    if re.fullmatch(r"[0-9.]+", host) or ":" in host:
        return "is no IP address"
    try:
        labels = host.encode("idna").decode().removesuffix(".").split(".")
    except UnicodeError:
        return "is no host name"
    return None if all(_LABEL.fullmatch(label) for label in labels) else "is no host name"


def address_problem(address: str) -> str | None:
    """Why a text is no mail address; None if it is one."""
    name, mailbox = parseaddr(address)
    local, _, domain = mailbox.rpartition("@")
    if mailbox.count("@") != 1 or not local or re.search(r"[\s,;<>]", mailbox) or (not name and mailbox != address.strip()):
        return "is no mail address"
    return "has no domain" if host_problem(domain.strip("[]"), listens=True) else None


def _sections(section: Section, path: str) -> Iterator[tuple[str, Section]]:
    yield path, section
    for name, value in _values(section):
        for number, item in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(item, Section):
                suffix = f"{name}.{number}" if isinstance(value, tuple) else name
                yield from _sections(item, f"{path}.{suffix}".lstrip("."))


def _values(section: Section) -> Iterator[tuple[str, Any]]:
    """Keys as in the file, and their values."""
    for name, field in type(section).model_fields.items():
        yield field.alias or name, getattr(section, name)


def _hosts_and_ports(path: str, section: Section) -> Iterator[Mistake]:
    values = dict(_values(section))
    listens = path in {"listener", "flower", "portal"}
    if isinstance(host := values.get("host"), str):
        problem = host_problem(host, networks=path.startswith("listener.peers"), listens=listens)
        if problem is not None:
            remedy = "write an address such as 10.0.0.5, or a host name; the port has its own key"
            yield Mistake(f"{path}.host", f"{host!r} {problem}", remedy)
    if values.get("port") == 0:
        yield Mistake(f"{path}.port", "0 is no port", "write the port's number, 1 to 65535")


def _shared_ports(settings: Settings) -> Iterator[Mistake]:
    used = [
        ("listener.port", settings.listener.host, settings.listener.port),
        ("flower.port", settings.flower.host, settings.flower.port),
    ]
    if (portal := settings.portal) is not None:
        used.append(("portal.port", portal.host, portal.port))
        if portal.metrics_port is not None:
            used.append(("portal.metrics_port", portal.metrics_host, portal.metrics_port))
    for (one, host, port), (other, other_host, other_port) in combinations(used, 2):
        if port == other_port and port and (host == other_host or _WILDCARDS & {host, other_host}):
            yield Mistake(other, f"{port} is the port of {one.removesuffix('.port')} too", "give each program its own port")


def _files(path: str, section: Section) -> Iterator[Mistake]:
    values = dict(_values(section))
    for name in _FILES & values.keys():
        file = values[name]
        if isinstance(file, Path):
            problem = None if file.is_file() else "is no file" if file.exists() else "does not exist"
            if problem is not None:
                yield Mistake(f"{path}.{name}", f"{file} {problem}", "name a PEM file that corewatch's user can read")
    key = "certificate_key" if "certificate_key" in values else "key"  # portal.key signs links
    if "certificate" in values and key in values and (values["certificate"] is None) != (values[key] is None):
        yield Mistake(f"{path}.{key}", f"only one of certificate and {key} is set", "set both, or neither")


def _login(path: str, section: Section) -> Iterator[Mistake]:
    values = dict(_values(section))
    if "user" not in values or "password" not in values or path == "flower":
        return
    if values["user"] and values["password"] is None:
        name = f"COREWATCH__{path.upper().replace('.', '__')}__PASSWORD"
        yield Mistake(f"{path}.password", "user has no password", f"set password (in the environment: {name}), or remove user")
    if values["password"] is not None and not values["user"]:
        yield Mistake(f"{path}.user", "password has no user", "set user, or remove password")


def _ourselves(settings: Settings) -> Iterator[Mistake]:
    listener = settings.listener
    for number, pacs in enumerate(settings.deliver.pacs):
        if pacs.port == listener.port and _is_this_host(pacs.host):
            yield Mistake(
                f"deliver.pacs.{number}", f"{pacs.host}:{pacs.port} is corewatch's own listener", "write the address of the PACS"
            )


def _is_this_host(host: str) -> bool:
    names = {"localhost", socket.gethostname(), socket.getfqdn()}
    addresses = {found.address.partition("%")[0] for of_one in psutil.net_if_addrs().values() for found in of_one}
    return host.lower() in {name.lower() for name in names} or host in addresses or host.startswith("127.")


def _results_folder(settings: Settings) -> Iterator[Mistake]:
    if settings.deliver.folder is None:
        return
    results, data = real_path(settings.deliver.folder.path), real_path(settings.data_dir)
    kept = [settings.received_dir, settings.cases_dir, settings.models_dir, settings.commitment_dir]
    if results == data or any(results.is_relative_to(real_path(folder)) for folder in kept):
        remedy = "name a folder of its own for results"
        yield Mistake("deliver.folder.path", f"{results} is where corewatch keeps its own files (data_dir)", remedy)


def _mail(settings: Settings) -> Iterator[Mistake]:
    deliver, email = settings.deliver, settings.deliver.email
    addresses = [(f"deliver.escalation.{n}.to", one) for n, level in enumerate(deliver.escalation) for one in level.to]
    if email is not None:
        addresses += [("deliver.email.from", email.sender), *(("deliver.email.to", one) for one in email.to)]
        addresses += [("deliver.email.operators", one) for one in email.operators]
        addresses += [(f"deliver.email.lists.{n}.to", one) for n, group in enumerate(email.lists) for one in group.to]
    for key, address in addresses:
        if (problem := address_problem(address)) is not None:
            yield Mistake(key, f"{address!r} {problem}", "write an address such as team@hospital.example")
    if email is None:
        return
    if email.port == _IMPLICIT_TLS_PORT and email.security != "tls":
        problem = f"port {_IMPLICIT_TLS_PORT} speaks TLS from the first byte, not {email.security}"
        yield Mistake("deliver.email.security", problem, "write tls, or port 587")
    if not email.operator_addresses and not any(folder.email for folder in settings.watch.folders):
        yield Mistake("deliver.email.to", "nobody receives a mail", "name recipients in to, operators or lists")
    from pydicom.datadict import tag_for_keyword  # imported when first needed: most programs read settings without DICOM

    for keyword in email.patient_fields:
        if tag_for_keyword(keyword) is None:
            yield Mistake("deliver.email.patient_fields", f"{keyword!r} is no DICOM keyword", "write keywords such as PatientID")
