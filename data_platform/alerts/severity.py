"""How bad a failed check is for a person, by the names that it is known by: alerts, metrics and status say the same."""

from data_platform.alerts.events import Kind
from data_platform.alerts.store import CheckRow
from data_platform.contracts import STAGED
from data_platform.contracts.rules import Severity
from data_platform.quality.names import GAPS, TRADING, UNMADE, WAITING, YESTERDAY
from data_platform.transforms.staging import GENERAL_CHECKS

# What looks at a source as a whole, as of a day: the newest result counts, whatever partition its run was of.
OF_TODAY = (YESTERDAY, TRADING, GAPS, WAITING)
KINDS_OF_TODAY: dict[str, Kind] = {
    YESTERDAY: "delivery_overdue",
    TRADING: "delivery_overdue",
    WAITING: "quarantine_old",
}
_SEVERITIES: dict[str, Severity] = {"critical": "critical", "warning": "warning", "info": "info"}


def kind_of(rule: str) -> Kind:
    """The kind of alert that a failure of the check is."""
    return KINDS_OF_TODAY.get(rule, "check_failed")


def severity_of(row: CheckRow) -> Severity:
    """How bad it is for a person: a critical rule that only set rows aside, or was not judged, is a warning."""
    if kind_of(row.rule) == "delivery_overdue":
        return "critical"
    severity = _SEVERITIES[row.severity]
    sets_aside = row.rule in row_rules(row.asset) or row.note.startswith(UNMADE)
    return "warning" if severity == "critical" and sets_aside else severity


def row_rules(asset: str) -> set[str]:
    """The checks of a staged table that set rows aside; none of another table."""
    contract = {one.table: one for one in STAGED.values()}.get(asset)
    return {*GENERAL_CHECKS, *(rule.name for rule in contract.rules)} if contract else set()
