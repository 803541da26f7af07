"""Dagster's own storage in Postgres, as named in dagster.yaml: runs, events and schedules, and where its files go.

Dagster's bookkeeping of a year's range run takes ten times as long on its stock Postgres storage: every event opens
connections, is written alone and synchronously, and every check is planned once a partition. What is changed here is
that and nothing else. The connection of the warehouse belongs to `warehouse.connection`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from dagster._config.config_schema import UserConfigSchema
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorageMetadata
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import RunStorageSqlMetadata
from dagster._core.storage.schedules import ScheduleStorageSqlMetadata
from dagster._core.storage.sql import stamp_alembic_rev
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage, event_log
from dagster_postgres.utils import pg_alembic_config

from data_platform.errors import DatabaseUnavailable, SettingsError
from data_platform.settings import Settings, settings

DATABASE = "dagster"
CONNECT_ARGS = {"connect_timeout": 10, "application_name": "dagster"}
MAIN_TABLES = frozenset({"runs", "event_logs", "jobs"})  # one of each of the three storages
SCHEMA_LOCK = 0x64616773_74657221  # any number: two processes must not make Dagster's tables at once

# Dagster reads it at every event; set here it reaches every process, since each one loads its storage.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")


class PlatformStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage on the platform's settings, pooled. Named in dagster.yaml under `storage: custom`."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        self._event_log_storage = PlatformEventLogStorage(postgres_url, should_autocreate_tables=False)
        engine = pooled_engine(postgres_url, os.getpid())
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            # Stock storages open a connection (13 ms) for every statement. The webserver replaces this pool by its own.
            storage._engine = engine

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No configuration: the environment says everything (`data_platform.settings`)."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, _config_value: Mapping[str, Any]
    ) -> "PlatformStorage":
        """The storage, its server started and its tables made if need be. Called several times in a process.

        Raises SettingsError or DatabaseUnavailable in one sentence, before Dagster's own retries of 14 seconds.
        """
        url = storage_url(settings())
        fresh = _prepare_tables(url)
        storage = cls(url, inst_data)
        if fresh:
            storage._mark_migrations_done()
        return storage

    def _mark_migrations_done(self) -> None:
        self._run_storage.migrate()
        self._run_storage.optimize()
        self._event_log_storage.reindex_events()
        self._event_log_storage.reindex_assets()
        self._schedule_storage.migrate()
        self._schedule_storage.optimize()
        # Else the first page that the UI shows makes it, which the role of a viewer may not.
        self._run_storage.get_run_storage_id()


class PlatformEventLogStorage(PostgresEventLogStorage):
    """Dagster's event log with exactly one row per check and run, where the stock one leaves orphans.

    The stock one plans a row per partition of the run, yet looks for a planned row by the partition that the result
    names. The result of a range run names none, nor does that of a check spec without partitions_def: the planned
    rows then stay for ever, shown as skipped or failed. The figures per partition are in the checks' metadata.
    """

    @cached_property
    def supports_asset_checks(self) -> bool:
        """Asked once: the stock one asks Postgres at every event of a check whether there is a table for it."""
        return bool(super().supports_asset_checks)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        planned = cast(AssetCheckEvaluationPlanned, event.get_dagster_event().event_specific_data)
        if planned.partitions_subset is not None and len(planned.partitions_subset) != 1:
            one = AssetCheckEvaluationPlanned(asset_key=planned.asset_key, check_name=planned.check_name)
            event = event._replace(dagster_event=event.get_dagster_event()._replace(event_specific_data=one))
        super()._store_asset_check_evaluation_planned(event, event_id)

    def _update_asset_check_evaluation(self, event: EventLogEntry, event_id: int | None) -> None:
        evaluation = cast(AssetCheckEvaluation, event.get_dagster_event().event_specific_data)
        rows = AssetCheckExecutionsTable.c
        with self.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.update()
                .where(
                    rows.asset_key == evaluation.asset_key.to_string(),
                    rows.check_name == evaluation.check_name,
                    rows.run_id == event.run_id,
                    rows.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value,
                    rows.partition.is_distinct_from(evaluation.partition),
                )
                .values(partition=evaluation.partition)
            )
        super()._update_asset_check_evaluation(event, event_id)


class PlatformArtifacts(LocalArtifactStorage):
    """Dagster's files (the default IO manager's, uploads) in the platform's home, not in the repository's root."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No configuration: the environment says everything."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, _config_value: Mapping[str, Any]
    ) -> "PlatformArtifacts":
        """The storage, in `$DATA_PLATFORM_HOME/dagster`."""
        return cls(str(_files()), inst_data)


class PlatformComputeLogs(LocalComputeLogManager):
    """What runs print (stdout and stderr of the steps), in the platform's home."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No configuration: the environment says everything."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, _config_value: Mapping[str, Any]
    ) -> "PlatformComputeLogs":
        """The log manager, in `$DATA_PLATFORM_HOME/dagster/compute_logs`."""
        return cls(str(_files() / "compute_logs"), inst_data=inst_data)


def storage_url(settings: Settings) -> str:
    """The URL of Dagster's database in SQLAlchemy's words; starts the embedded server where that is the one.

    DATA_PLATFORM_DAGSTER_URL, else the database `dagster` of the warehouse's server, made if it is missing.
    """
    if settings.dagster_url is not None:
        return _sqlalchemy_url(settings.dagster_url, "DATA_PLATFORM_DAGSTER_URL")
    if settings.warehouse_url is not None:
        return _beside_warehouse(_sqlalchemy_url(settings.warehouse_url, "DATA_PLATFORM_WAREHOUSE_URL"))
    from data_platform.embedded_postgres import ensure_server

    return _sqlalchemy_url(ensure_server(settings.home).url(DATABASE), "")


@lru_cache(maxsize=8)
def pooled_engine(url: str, _process: int) -> sa.Engine:
    """The one engine of a URL in the process with that pid: a forked child must not use its parent's connections."""
    return sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=5,
        max_overflow=20,
        pool_recycle=1800,
        pool_use_lifo=True,
        pool_pre_ping=True,  # the server may have been started anew since
        connect_args=CONNECT_ARGS,
    )


def _files() -> Path:
    return settings().home / "dagster"


def _sqlalchemy_url(url: str, variable: str) -> str:
    """`url` for psycopg2: SQLAlchemy 2.1 takes postgresql:// for psycopg 3, on which Dagster's NOTIFY fails."""
    try:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg2")
        if "@" in (parsed.host or ""):
            raise ValueError  # of a password that nobody encoded, which errors would quote as the host
    except (sa.exc.ArgumentError, ValueError):
        raise SettingsError(
            f"{variable} cannot be read: set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    return parsed.render_as_string(hide_password=False)


@cache
def _beside_warehouse(warehouse: str) -> str:
    """The URL of the database `dagster` on the warehouse's server. It is made if it is missing."""
    here = sa.make_url(warehouse)
    with _connected(sa.create_engine(here, poolclass=sa.NullPool, connect_args=CONNECT_ARGS), here) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        exists = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        if connection.execute(exists, {"name": DATABASE}).first() is None:
            _create_database(connection, here)
    return here.set(database=DATABASE).render_as_string(hide_password=False)


def _create_database(connection: sa.Connection, here: sa.URL) -> None:
    try:
        connection.execute(sa.text(f"CREATE DATABASE {DATABASE}"))
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "pgcode", None)
        if state in ("42P04", "23505"):
            return  # another process was faster
        if state == "42501":
            raise SettingsError(
                f"Dagster needs a database {DATABASE} on {_place(here)}, and {here.username} may not create it: create "
                f"it (CREATE DATABASE {DATABASE} OWNER {here.username}), or set DATA_PLATFORM_DAGSTER_URL to another."
            ) from None
        raise DatabaseUnavailable(
            f"The database {DATABASE} could not be created on {_place(here)}: {_reason(error, here)}"
        ) from None


def _commit_asynchronously(connection: sa.Connection, here: sa.URL) -> None:
    """Spare Dagster's own database the wait for the disk: a power cut may cost it the last moments of its log.

    Not where it shares the warehouse's database, nor where it belongs to somebody else.
    """
    warehouse = settings().warehouse_url
    if warehouse is not None:
        shared = sa.make_url(warehouse)
        if (shared.host, shared.port, shared.database) == (here.host, here.port, here.database):
            return
    owned = sa.text("SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()")
    if connection.execute(owned).scalar():
        name = connection.dialect.identifier_preparer.quote(here.database or "")
        connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))


def _prepare_tables(url: str) -> bool:
    """Makes Dagster's tables if they are missing; whether its database is fresh, without a single run.

    One transaction behind one lock: of two first processes one waits, and a kill leaves all or nothing. It is also
    the probe that tells in a sentence that the database is down.
    """
    here = sa.make_url(url)
    with _connected(pooled_engine(url, os.getpid()), here) as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        if MAIN_TABLES.issubset(sa.inspect(connection).get_table_names()):
            return _has_no_run(connection)
        connection.rollback()
        with connection.begin():
            # Of the transaction, not of the session: pgbouncer shares sessions.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
            if not MAIN_TABLES.issubset(sa.inspect(connection).get_table_names()):
                _commit_asynchronously(connection, here)
                for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata):
                    metadata.create_all(connection)
                stamp_alembic_rev(pg_alembic_config(event_log.__file__), connection)
        return _has_no_run(connection)


def _has_no_run(connection: sa.Connection) -> bool:
    return connection.execute(sa.text("SELECT 1 FROM runs LIMIT 1")).first() is None


@contextmanager
def _connected(engine: sa.Engine, here: sa.URL) -> Iterator[sa.Connection]:
    try:
        connection = engine.connect()
    except sa.exc.OperationalError as error:
        raise DatabaseUnavailable(
            f"Dagster's Postgres at {_place(here)} cannot be reached ({_reason(error, here)}): start it, or correct "
            f"DATA_PLATFORM_DAGSTER_URL or DATA_PLATFORM_WAREHOUSE_URL."
        ) from None
    with connection:
        yield connection


def _place(url: sa.URL) -> str:
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


def _reason(error: sa.exc.DBAPIError, url: sa.URL) -> str:
    """What Postgres says, in its first line, without the password."""
    text = str(error.orig).strip().split("\n", 1)[0]
    return text.replace(str(url.password), "***") if url.password else text
