"""The errors that people see: one class per kind of failure, one sentence naming the culprit and the mend.

What belongs here: classes that more than one layer raises or tells apart. No message may hold a secret or
personal data. What must not be retried is permanent; only what may pass by itself is transient.
"""


class PlatformError(Exception):
    """Base of every error that the platform raises on purpose. Its text is one sentence for a person."""

    transient = False


class SettingsError(PlatformError):
    """An environment variable or a configuration file holds something that cannot be used."""


class DeliveryRejected(PlatformError):
    """A delivery cannot be taken as a whole: nothing of it was written, what stood before stands."""


class SourceUnavailable(PlatformError):
    """A source or the lake cannot be read or written now (permissions, a full disk, a network)."""

    transient = True


class DatabaseUnavailable(PlatformError):
    """Postgres cannot be reached or went away: nothing was published."""

    transient = True


class RuleBroken(PlatformError):
    """Rows that a publish is about to write break a critical rule of their table: nothing of it was published.

    `table`, `rule` and `rows` say which rule, and how many rows.
    """

    def __init__(self, table: str, rule: str, description: str, rows: int) -> None:
        super().__init__(
            f"{table}: {rows} rows would break the critical rule {rule} ({description}) The table stays as it was; "
            "see the check in the UI, mend what was delivered or the contract, and run again."
        )
        self.table, self.rule, self.rows = table, rule, rows


class PublishRefused(PlatformError):
    """The warehouse is in a state that a publish must not touch (a changed contract, unknown rows)."""
