"""What the planner knows of tables after large loads, so that the next query need not wait for autovacuum."""

import logging

import psycopg

from data_platform.errors import PlatformError
from data_platform.warehouse.connection import looking

# Below it autovacuum is soon enough: a connection of its own would cost a small publish more than it gains.
FEWEST_ROWS = 10_000
SHARE = 0.1
# What the publish itself has analysed counts as unchanged.
CHANGED = """
    SELECT s.relname
    FROM pg_stat_user_tables AS s
    JOIN pg_class AS c ON c.oid = s.relid
    WHERE s.schemaname = 'warehouse'
        AND c.relkind = 'r'
        AND s.n_mod_since_analyze >= %(fewest)s
        AND s.n_mod_since_analyze > %(share)s * c.reltuples
    ORDER BY s.relname
"""

log = logging.getLogger(__name__)


def count_at_commit(connection: psycopg.Connection, written: int) -> None:
    """Have Postgres count at the commit what a large transaction wrote, and not when it finds the time."""
    if written >= FEWEST_ROWS:
        connection.execute("SELECT pg_stat_force_next_flush()")


def analyze_changed(url: str, written: int) -> list[str]:
    """ANALYZE the tables of the star of which much was `written` just now, partitions singly; returns their names.

    Never raises and waits for nobody: what was published stands, and autovacuum comes after all.
    """
    if written < FEWEST_ROWS:
        return []
    try:
        with looking(url, application="data-platform analyze") as connection:
            found = connection.execute(CHANGED, {"fewest": FEWEST_ROWS, "share": SHARE}).fetchall()
            for (table,) in found:
                # By the owner's rights: whoever loads need not be the owner.
                connection.execute("SELECT warehouse.analyze_table(%s)", [table])
    except PlatformError as error:
        log.info("Tables were not analysed after a load: %s", error)
        return []
    return [table for (table,) in found]
