"""Digests on both databases: a mail that another worker is claiming at the same moment is that worker's alone."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from corewatch.mail_throttle import MailLimits, SendMode
from corewatch.states import CaseState, DeliveryState
from ledger.digests import Decision
from ledger.store import Ledger
from ledger.tables import deliveries
from tests.support.ledger import queued


@pytest.mark.servers
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_digest_leaves_alone_what_another_worker_is_claiming(ledger: Ledger) -> None:
    ids = [_delivering(ledger, f"1.{k}") for k in range(3)]
    limits = MailLimits(2, timedelta(minutes=15), timedelta(hours=12))
    assert ledger.deliveries.begin(ids[0], "email", lease_s=60)
    found: list[Decision] = []
    digest = threading.Thread(
        target=lambda: found.append(ledger.digests.decide(ids[0], "email", limits, alerts_apart=True, lease_s=60, holder="me"))
    )
    database = ledger.deliveries._database
    with database.transaction() as connection:  # another worker's claim, not committed yet
        mine = deliveries.c.case_id == ids[1]
        connection.execute(update(deliveries).where(mine).values(state=DeliveryState.SENDING, holder="other"))
        digest.start()
        digest.join(1)
        assert digest.is_alive(), "it waits for the other one"
    digest.join(30)
    assert [one.verdict.mode for one in found] == [SendMode.DIGEST]
    assert found[0].digest is not None
    assert set(ledger.digests.members(found[0].digest, "email")) == {ids[0], ids[2]}
    assert [d.holder for d in ledger.deliveries.of(ids[1])] == ["other"]


def _delivering(ledger: Ledger, series: str) -> str:
    case_id = queued(ledger, series)
    ledger.cases.advance(case_id, CaseState.QUEUED, CaseState.PREPARED)
    ledger.cases.advance(case_id, CaseState.PREPARED, CaseState.DETECTED, core_ml=12.5, side="left", alert=False)
    assert ledger.deliveries.plan(case_id, CaseState.DETECTED, CaseState.DELIVERING, {"email": None})
    return case_id
