"""VACUUM and ANALYZE where much was written: outside of every transaction, and only of tables that the role owns."""

import logging
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from data_platform.retention.done import Done

STEP = "vacuum"
APPLICATION = "data-platform cleanup"
# As autovacuum begins at a fifth of a table, or not at all where somebody has switched it off.
DEAD_SHARE, FEWEST_DEAD = 0.1, 1000

# Tables of others are passed over: Postgres would warn of each.
WANTED = """
    SELECT s.schemaname, s.relname, s.n_dead_tup
    FROM pg_stat_user_tables AS s
    JOIN pg_class AS c ON c.oid = s.relid
    WHERE s.schemaname = ANY(%(schemas)s)
        AND c.relkind = 'r'
        AND pg_has_role(c.relowner, 'USAGE')
        AND s.n_dead_tup > %(fewest)s + %(share)s * s.n_live_tup
    ORDER BY s.schemaname, s.relname
"""

log = logging.getLogger(__name__)


def of_dead_rows(url: str, schemas: Sequence[str], *, dry_run: bool) -> Iterator[Done]:
    """VACUUM (ANALYZE) the tables of `schemas` in which many rows are dead. What cannot be vacuumed is logged."""
    try:
        with psycopg.connect(url, autocommit=True, application_name=APPLICATION, connect_timeout=10) as apart:
            limits = {"schemas": list(schemas), "fewest": FEWEST_DEAD, "share": DEAD_SHARE}
            for schema, table, dead in apart.execute(WANTED, limits).fetchall():
                if not dry_run:
                    # SKIP_LOCKED: whoever holds a lock on the table is not waited for.
                    apart.execute(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(sql.Identifier(schema, table)))
                yield Done(STEP, "vacuumed", f"Dead rows of {schema}.{table}", rows=dead)
    except psycopg.Error as error:
        log.warning("Not every table was vacuumed (%s): the next cleanup tries again.", type(error).__name__)
