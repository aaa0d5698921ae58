"""Delivery of a result: one attempt per destination (`run_delivery`), digests of mails, and the circuit breaker per server."""

from worker.delivery.reporting import report_case, write_last_result
from worker.delivery.sending import run_delivery

__all__ = ["report_case", "run_delivery", "write_last_result"]
