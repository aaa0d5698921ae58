"""What is mutated and which tests answer for it; and the mutants that no test can tell from the original.

A target is a file or a folder. The longest path that fits a file decides. The tests are run in the given order until one fails:
the quickest, and those that fail most easily, stand first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SELECTION: Final = (
    "tests/unit/corewatch/test_selection_rules.py",
    "tests/unit/corewatch/test_selection.py",
    "tests/unit/config/test_series.py",
)
_STACK: Final = (
    "tests/unit/conversion/test_volume_grid.py",
    "tests/unit/conversion/test_grid_size.py",
    "tests/unit/conversion/test_series_checks.py",
    "tests/unit/conversion/test_values.py",
    "tests/unit/conversion/test_convert.py",
    "tests/contract/test_conversion_phantom.py",
)
_LEDGER_CASES: Final = (
    "tests/contract/test_ledger_cases.py",
    "tests/contract/test_ledger_intake.py",
    "tests/contract/test_ledger_revisions.py",
    "tests/contract/test_ledger_clock.py",
    "tests/unit/cli/test_cases.py",
    "tests/unit/worker/test_poison_case.py",
    "tests/unit/daemon/test_dispatcher.py",
)
_LEDGER_DELIVERIES: Final = (
    "tests/contract/test_ledger_deliveries.py",
    "tests/contract/test_ledger_delivery_states.py",
    "tests/contract/test_ledger_digests.py",
    "tests/contract/test_ledger_alerts.py",
    "tests/contract/test_ledger_commitments.py",
    "tests/contract/test_ledger_clock.py",
    "tests/contract/test_receipts.py",
    "tests/unit/cli/test_send.py",
)

TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "corewatch/cautions.py": ("tests/unit/corewatch/test_cautions.py",),
    "corewatch/computed_images.py": _SELECTION,
    "corewatch/contrast.py": ("tests/unit/corewatch/test_series_words.py", *_SELECTION),
    "corewatch/header_text.py": ("tests/unit/corewatch/test_series_words.py", *_SELECTION),
    "corewatch/operator_actions.py": ("tests/unit/cli/test_case_actions.py",),
    "corewatch/roles.py": ("tests/integration/test_portal_access.py",),
    "corewatch/search_keys.py": ("tests/contract/test_ledger_worklist.py",),
    "corewatch/series_words.py": ("tests/unit/corewatch/test_series_words.py", *_SELECTION),
    "corewatch/stored_objects.py": ("tests/contract/test_ledger_deliveries.py", "tests/integration/test_slow_archives.py"),
    "corewatch/waiting.py": ("tests/unit/corewatch/test_waiting.py",),
    "corewatch/arrival.py": ("tests/contract/test_ledger_intake.py",),
    "corewatch/atna.py": ("tests/unit/corewatch/test_atna.py", "tests/unit/daemon/test_audit_forwarding.py"),
    "corewatch/casefolder.py": ("tests/unit/corewatch/test_values.py", "tests/unit/worker/test_leftovers.py"),
    "corewatch/storage_commitment.py": (
        "tests/unit/corewatch/test_decision_tables.py",
        "tests/unit/corewatch/test_storage_commitment.py",
    ),
    "corewatch/completeness.py": (
        "tests/unit/corewatch/test_decision_tables.py",
        "tests/unit/corewatch/test_completeness.py",
    ),
    "corewatch/errors.py": ("tests/unit/corewatch/test_errors.py",),
    "corewatch/findings.py": (
        "tests/unit/corewatch/test_values.py",
        "tests/unit/outputs/test_wording.py",
        "tests/unit/corewatch/test_result_contract.py",
    ),
    "corewatch/foldername.py": ("tests/unit/corewatch/test_foldername.py",),
    "corewatch/geometry.py": ("tests/unit/corewatch/test_geometry.py",),
    "corewatch/identity.py": ("tests/unit/corewatch/test_identity.py",),
    "corewatch/instance.py": ("tests/unit/corewatch/test_values.py", *_SELECTION),
    "corewatch/mail_receipts.py": (
        "tests/unit/corewatch/test_decision_tables.py",
        "tests/unit/corewatch/test_mail_receipts.py",
    ),
    "corewatch/stage_limits.py": ("tests/unit/corewatch/test_values.py",),
    "corewatch/messages.py": ("tests/unit/corewatch/test_values.py",),
    "corewatch/mail_throttle.py": ("tests/unit/corewatch/test_decision_tables.py", "tests/unit/corewatch/test_mail_throttle.py"),
    "corewatch/reasons.py": ("tests/unit/project/test_documentation.py",),
    "corewatch/result.py": ("tests/unit/corewatch/test_result_contract.py", "tests/unit/project/test_notes.py"),
    "corewatch/selection.py": (*_SELECTION, "tests/unit/conversion/test_non_slices.py"),
    "corewatch/shortage.py": (
        "tests/unit/corewatch/test_decision_tables.py",
        "tests/unit/corewatch/test_shortage.py",
    ),
    "corewatch/source_images.py": ("tests/unit/corewatch/test_values.py",),
    "corewatch/spacing.py": (
        "tests/unit/corewatch/test_slice_stack_limits.py",
        "tests/unit/corewatch/test_spacing.py",
        "tests/unit/conversion/test_series_checks.py",
    ),
    "corewatch/slice_stack.py": (
        "tests/unit/corewatch/test_slice_stack_limits.py",
        "tests/unit/corewatch/test_slice_stack.py",
        "tests/unit/corewatch/test_spacing.py",
        *_SELECTION,
    ),
    "corewatch/states.py": ("tests/unit/corewatch/test_states.py",),
    "corewatch/acquisition_runs.py": (
        "tests/unit/corewatch/test_slice_stack_limits.py",
        "tests/unit/corewatch/test_acquisition_runs.py",
        "tests/unit/conversion/test_series_checks.py",
    ),
    "corewatch/volumes.py": ("tests/unit/corewatch/test_values.py",),
    "conversion/series_checks.py": (
        "tests/unit/conversion/test_series_check_limits.py",
        "tests/unit/conversion/test_series_checks.py",
        "tests/unit/conversion/test_grid_size.py",
        "tests/unit/conversion/test_convert.py",
    ),
    "conversion/volume_grid.py": _STACK,
    "conversion/hounsfield.py": (
        "tests/unit/conversion/test_hounsfield.py",
        "tests/unit/conversion/test_values.py",
        "tests/unit/conversion/test_convert.py",
    ),
    "conversion/alignment/quality.py": ("tests/unit/conversion/test_quality.py",),
    "ledger/cases.py": _LEDGER_CASES,
    "ledger/deliveries.py": _LEDGER_DELIVERIES,
    "ledger/delivery_states.py": ("tests/contract/test_ledger_delivery_states.py",),
    "ledger/intake.py": (
        "tests/contract/test_ledger_intake.py",
        "tests/contract/test_ledger_revisions.py",
        "tests/contract/test_ledger_cases.py",
        "tests/integration/test_daemon_assembler.py",
        "tests/integration/test_daemon_revisions.py",
    ),
    "ledger/outbox.py": ("tests/contract/test_ledger_cases.py", "tests/unit/daemon/test_dispatcher.py"),
    "worker/stages/attempts.py": (
        "tests/unit/worker/test_stage_attempts.py",
        "tests/unit/worker/test_claims.py",
        "tests/unit/worker/test_poison_case.py",
    ),
    "worker/delivery/sending.py": (
        "tests/unit/worker/test_delivery_attempts.py",
        "tests/unit/worker/test_claims.py",
        "tests/integration/test_commitment_scu.py",
    ),
    "outputs/mail/case_mail.py": ("tests/unit/outputs/test_mail.py", "tests/unit/project/test_notes.py"),
    "outputs/dicom/segmentation.py": ("tests/unit/outputs/test_segmentation.py",),
    "outputs/dicom/structured_report.py": ("tests/unit/outputs/test_structured_report.py",),
    "dicom_listener/policy.py": ("tests/unit/dicom_listener/test_policy.py",),
    "dicom_listener/negotiation.py": ("tests/unit/dicom_listener/test_negotiation.py",),
}
"""Source file or folder -> the tests that answer for it."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that behaves as the original: the file's name, the mutated line as the report prints it, and why."""

    file: str
    line: str
    reason: str


EQUIVALENTS: Final[tuple[Equivalent, ...]] = (
    *(
        Equivalent(file, line.format(part), "any lease between the hard limit and the broker's visibility timeout is right")
        for file, line in (
            ("attempts.py", "lease_s = limits.hard_s(step.stage) + VISIBILITY_MARGIN_S / {}"),
            ("sending.py", "return context.settings.work.limits.hard_s(Stage.DELIVER) + VISIBILITY_MARGIN_S / {}"),
        )
        for part in ("5", "(3)")
    ),
    Equivalent(
        "completeness.py",
        "one_after_another=(first_end is not None and first_end < latest_start),",
        "both moments are known, or neither is",
    ),
    Equivalent(
        "quality.py",
        "inside = np.argwhere((template.distance_mm[::2, ::2, ::2] <= -4.0)) * 2 * STEP_MM + template.origin_mm",
        "no voxel of the template lies at exactly 4 mm",
    ),
    Equivalent(
        "hounsfield.py",
        "if low >= _INT16.min and (high < _INT16.max):",
        "the slower branch gives the same values",
    ),
    Equivalent(
        "hounsfield.py",
        "if (low > _INT16.min) and high <= _INT16.max:",
        "the slower branch gives the same values",
    ),
    Equivalent("segmentation.py", "normal = images.pixel_to_lps((-1))[:3, 2]", "the slices of a source have one normal"),
    Equivalent("segmentation.py", "normal = images.pixel_to_lps(1)[:3, 2]", "the slices of a source have one normal"),
    Equivalent(
        "segmentation.py",
        "place = np.array(item.PlanePositionSequence[(-1)].ImagePositionPatient, np.float64)",
        "the sequence has one item",
    ),
)
