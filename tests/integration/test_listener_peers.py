"""Who may send, and how much at once: the listener in this process, against a Storage SCU."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import dicom_listener.policy
import dicom_listener.server
from cli.program_health import listener_answers
from config.intake import Peer
from dicom_listener.server import MAX_UNASSOCIATED_PER_HOST, StorageListener
from foundation.addresses import Address, parse_address
from foundation.stopping import StopRequest
from foundation.throttle import TokenBucket
from tests.support.listener import arrivals, associate, captured_logs, listener_settings, running, send
from tests.support.net import wait_for

PACS = Peer(ae_title="PACS", host="10.1.2.3")
CLOSED = (0, 0, 0)
"""Instead of an A-ASSOCIATE-RJ: no peer has this address."""


@pytest.mark.parametrize(
    ("peers", "address", "calling", "called", "expected"),
    [
        ((), "127.0.0.1", "ANYONE", "COREWATCH", None),
        ((), "127.0.0.1", "ANYONE", "OTHER", (1, 1, 7)),
        ((PACS,), "127.0.0.1", "ANYONE", "COREWATCH", None),
        ((), "10.1.2.3", "PACS", "COREWATCH", CLOSED),
        ((PACS,), "10.1.2.3", "PACS", "COREWATCH", None),
        ((PACS,), "10.1.2.3", "OTHER", "COREWATCH", (1, 1, 3)),
        ((PACS,), "10.1.2.4", "PACS", "COREWATCH", CLOSED),
    ],
)
def test_who_may_send(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    peers: tuple[Peer, ...],
    address: str,
    calling: str,
    called: str,
    expected: tuple[int, int, int] | None,
) -> None:
    # the connection is loopback's; the listener takes it for one from `address`
    monkeypatch.setattr(
        dicom_listener.policy, "parse_address", lambda text: ipaddress.ip_address(address if text == "127.0.0.1" else text)
    )
    with running(listener_settings(tmp_path, peers=peers)) as listener, captured_logs(dicom_listener.server) as logs:
        association = associate(listener.port, calling=calling, called=called)
        assert association.is_established == (expected is None)
        if expected is None:
            association.release()
        elif expected == CLOSED:
            assert association.rejection is None
            (event,) = logs
            assert (event["event"], event["reason"]) == ("connection_refused", "no peer in listener.peers has this address")
        else:
            answer = association.rejection
            assert (answer.result, answer.source, answer.reason_diagnostic) == expected
            (event,) = logs
            assert event["event"] == "association_rejected"
            assert (event["peer_ae_title"], event["peer_host"]) == (calling, "127.0.0.1")


def test_one_more_than_allowed_is_rejected_as_transient(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path, max_associations=2)) as listener:
        first, second = associate(listener.port), associate(listener.port)
        third = associate(listener.port)
        assert not third.is_established
        answer = third.rejection
        assert (answer.result, answer.source, answer.reason_diagnostic) == (2, 3, 2)
        first.release()
        wait_for("a place", lambda: listener.open_associations == 1)
        fourth = associate(listener.port)
        assert fourth.is_established
        second.release()
        fourth.release()


def test_one_address_leaves_room_for_others(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path, max_associations_per_peer=2)
    with running(settings) as listener, captured_logs(dicom_listener.server) as logs:
        mine = [associate(listener.port) for _ in range(3)]
        assert [a.is_established for a in mine] == [True, True, False]
        answer = mine[2].rejection
        assert (answer.result, answer.source, answer.reason_diagnostic) == (2, 3, 2)
        # another address of loopback stands for another host
        other = associate(listener.port, bind_address=("127.0.0.2", 0))
        assert other.is_established
        for association in (mine[0], mine[1], other):
            association.release()
        wait_for("all to have left", lambda: listener.open_associations == 0)
        again = associate(listener.port)
        assert again.is_established
        again.release()
    assert [e["reason"] for e in logs] == ["listener.max_associations_per_peer are open from this address"]


def test_a_fast_sender_is_slowed_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[str, float]] = []

    def wait(self: TokenBucket, peer: str, now_s: float) -> float:
        seconds = real(self, peer, 100.0)  # as if no time passed
        waited.append((peer, seconds))
        return min(seconds, 0.001)

    real = TokenBucket.reserve
    monkeypatch.setattr(TokenBucket, "reserve", wait)
    with running(listener_settings(tmp_path, max_instances_per_s_per_peer=2)) as listener:
        association = associate(listener.port)
        assert send(association, 1, 2, 3, 4) == [0, 0, 0, 0]
        association.release()
    assert waited == [("127.0.0.1", 0.0), ("127.0.0.1", 0.0), ("127.0.0.1", 0.5), ("127.0.0.1", 1.0)]


def test_a_listener_that_no_longer_accepts_ends_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager restarts a program that has ended; one that runs and answers nobody would go unnoticed."""
    listener = StorageListener(listener_settings(tmp_path))

    def broken() -> None:
        raise OSError("a defect")

    monkeypatch.setattr(listener, "_forget_ended", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(RuntimeError, match="no longer accepts"):
        listener.run_until(StopRequest(), timeout_s=0)


def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses 127.0.1.x of loopback stand for hosts elsewhere."""
    real = parse_address

    def parse(text: str) -> Address | None:
        return real(text.replace("127.0.1.", "10.9.9.") if text.startswith("127.0.1.") else text)

    monkeypatch.setattr(dicom_listener.policy, "parse_address", parse)


@pytest.mark.parametrize("outside", [True, False], ids=["strangers", "peers"])
def test_silent_connections_from_many_addresses_keep_no_sender_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: bool
) -> None:
    if outside:
        strangers(monkeypatch)
    settings = listener_settings(tmp_path, peers=(PACS,))
    with running(settings) as listener, ExitStack() as stack:
        silent = []
        for number in range(6 * MAX_UNASSOCIATED_PER_HOST):
            address = (f"127.0.1.{number % 6 + 1}", 0)
            silent.append(stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), source_address=address)))
        for number in range(20):
            association = associate(listener.port)
            assert association.is_established
            assert send(association, number) == [0]
            association.release()
        if outside:
            wait_for("all strangers to be closed", lambda: not listener._threads)
            assert silent[0].recv(1) == b""
        probed = settings.model_copy(update={"listener": settings.listener.model_copy(update={"port": listener.port})})
        assert listener_answers(probed)


def test_a_connection_that_is_closed_at_once_is_no_sign_of_a_hanging_listener(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = listener_settings(tmp_path, port=server.getsockname()[1])

        def close_all() -> None:
            for _ in range(2):
                server.accept()[0].close()

        thread = threading.Thread(target=close_all)
        thread.start()
        assert listener_answers(settings)
        thread.join()
    assert not listener_answers(settings), "nobody listens"


def test_an_association_that_we_end_names_the_setting(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path, idle_timeout_s=0.2)) as listener, captured_logs(dicom_listener.server) as logs:
        assert associate(listener.port).is_established
        wait_for("the end", lambda: listener.open_associations == 0)
    (event,) = [e for e in logs if e["event"] == "association_ended"]
    assert event["reason"] == "nothing was received for 0.2 s (listener.idle_timeout_s)"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
def test_the_unspecified_ipv6_address_listens_on_both_families(tmp_path: Path) -> None:
    with running(listener_settings(tmp_path, host="::")) as listener:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, listener.port)) as peer:
                peer.sendall(b"x")
        association = associate(listener.port)
        assert association.is_established
        assert send(association, 1) == [0]
        association.release()
        (arrival,) = arrivals(listener_settings(tmp_path))
        assert json.loads((arrival / "arrival.json").read_text())["peer_host"] == "127.0.0.1"
