"""`data-platform erase`: a person leaves every place, and the history of their orders stays."""

import gzip
import signal
import subprocess
import time

from data_platform_tests.erasure.world import (
    COMMAND,
    DAYS,
    ID,
    LAST,
    MAIL,
    VALUES,
    World,
    fill,
    line,
)

LANDING = [
    *(f"landing/customers/{day}.csv" for day in DAYS),
    *(f"landing/orders/{day}.csv" for day in DAYS),
]
FACTS = "SELECT order_id, line_number, quantity, total_amount, profit FROM warehouse.{} ORDER BY 1, 2"
OTHERS = (
    "SELECT customer_id, email, first_name, last_name, segment, effective_from, effective_to"
    " FROM warehouse.dim_customer WHERE customer_id NOT LIKE 'erased-%' AND customer_id <> 'ada-1815' ORDER BY 1, 6"
)


def test_a_person_leaves_every_place_and_their_orders_stay_under_a_pseudonym(world: World) -> None:
    before = world.told()
    kinds = {place.split("/")[1] if place.startswith("lake/") else place for place in before}
    assert {"raw_customers", "raw_orders", "stg_customers", "stg_orders", "quarantine_customers", "quarantine_orders",
            "warehouse.dim_customer", "marts.mart_customer_value", "public.event_logs"} <= kinds  # fmt: skip
    facts = [world.query(FACTS.format(table)) for table in ("fact_sales", "fact_returns")]
    others = world.query(OTHERS)
    value = world.query("SELECT segment, frequency, monetary_value FROM marts.mart_customer_value ORDER BY 1, 2, 3")

    found = world.answer()
    assert found["left"] == []
    assert sorted(found["landing"]) == sorted(path.removeprefix("landing/") for path in LANDING)
    assert found["found"]["raw"] == 3 + 2 + 4 + 2
    assert found["found"]["quarantine"] == 2

    assert sorted(world.told()) == sorted(LANDING)
    assert [world.query(FACTS.format(table)) for table in ("fact_sales", "fact_returns")] == facts
    assert world.query(OTHERS) == others
    assert world.query("SELECT segment, frequency, monetary_value FROM marts.mart_customer_value ORDER BY 1, 2, 3") == (
        value
    )
    versions = world.query(
        "SELECT email, first_name, last_name, segment, country FROM warehouse.dim_customer"
        " WHERE customer_id LIKE 'erased-%' ORDER BY effective_from"
    )
    assert versions == [(None, None, None, "retail", "GB"), (None, None, None, "peer", "GB")]
    verified = world.run("rebuild", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    # The landing files that still name the person are read again.
    world.load()
    assert sorted(world.told()) == sorted(LANDING)
    assert [world.query(FACTS.format(table)) for table in ("fact_sales", "fact_returns")] == facts
    ((run, digest, pseudonym, counts),) = world.query(
        "SELECT run_id, id_hash, pseudonym, counts FROM platform.erasures"
    )
    assert run
    assert len(digest) == 64
    assert counts == found["found"]
    assert world.query("SELECT DISTINCT customer_id FROM warehouse.dim_customer WHERE customer_id LIKE 'erased%'") == [
        (pseudonym,)
    ]


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    before = world.told()
    files = {path: path.read_bytes() for path in (world.home / "lake").rglob("*.parquet")}
    dry = world.answer("--dry-run")
    assert not dry["erased"]
    assert world.told() == before
    assert {path: path.read_bytes() for path in (world.home / "lake").rglob("*.parquet")} == files
    assert world.query("SELECT * FROM platform.erasures") == []
    assert world.answer()["found"] == dry["found"]


def test_an_erasure_that_is_killed_is_completed_by_the_next(world: World) -> None:
    facts = world.query(FACTS.format("fact_sales"))
    for wait in ("lake/_erased/register.json", "lake/_former/stg_customers"):
        process = subprocess.Popen(
            [*COMMAND, "erase", "--customer", ID, "--yes"], env=world.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        limit = time.monotonic() + 120
        while not (world.home / wait).exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
        assert set(world.told()) - set(LANDING), "something is left to do"
    assert world.answer()["left"] == []
    assert sorted(world.told()) == sorted(LANDING)
    assert world.query(FACTS.format("fact_sales")) == facts
    assert world.run("rebuild", "--verify").returncode == 0
    assert world.query("SELECT count(DISTINCT customer_id) FROM warehouse.dim_customer WHERE customer_id LIKE 'erased%'"
                       ) == [(1,)]  # fmt: skip


def test_nobody_of_that_id_blank_ids_and_no_answer_are_told_in_a_sentence(world: World) -> None:
    unknown = world.erase(customer="ada-1")
    assert (unknown.returncode, unknown.stderr.strip()) == (
        1, "No delivery and no table names a customer of that id: see how the source spells it.",
    )  # fmt: skip
    blank = world.erase(customer=" ")
    assert blank.returncode == 2
    asked = world.run("erase", "--customer", ID)
    assert asked.returncode == 2
    assert asked.stderr.startswith("Nobody is there to be asked: call it with --yes")
    assert world.query("SELECT * FROM platform.erasures") == []
    pseudonym = _pseudonym_after(world)
    again = world.erase(customer=pseudonym)
    assert again.returncode == 1
    assert "That is a pseudonym" in again.stderr
    once_more = world.answer()
    assert sum(once_more["found"].values()) == 0
    assert len(world.query("SELECT * FROM platform.erasures")) == 2


def _pseudonym_after(world: World) -> str:
    world.answer()
    ((pseudonym,),) = world.query("SELECT pseudonym FROM platform.erasures")
    return str(pseudonym)


def test_what_only_a_person_can_judge_is_listed_and_a_product_of_the_same_id_stays(empty: World) -> None:
    fill(empty)
    empty.deliver("products", DAYS[0], {"product_id": "p1", "cost": "4.00"}, {"product_id": ID, "cost": "1.00"})
    empty.deliver("orders", DAYS[0], line("o1", product_id=ID), line("o2", customer_id="b1", product_id=ID))
    empty.load()
    log = empty.home / "logs" / "old.log"
    log.write_text(f"{MAIL} asked, customer {ID}, not {ID}5; {LAST} alone is a town\n")
    with gzip.open(empty.home / "logs" / "older.log.gz", "wt") as file:
        file.write(f"mail to {MAIL}\n")
    done = empty.erase()
    assert done.returncode == 1, "what is packed is not mended"
    left = done.stdout.partition("Still tells of the person:\n")[2].split()
    # The order of somebody else is shipped to the person: no program can tell whether that may stay.
    assert left == [
        str(empty.home / "lake/raw_orders/dt=2024-01-01/part.parquet"),
        str(empty.home / "logs/older.log.gz"),
    ]
    (pseudonym,) = empty.query("SELECT pseudonym FROM platform.erasures")[0]
    assert log.read_text() == f"••• asked, customer {pseudonym}, not {ID}5; {LAST} alone is a town\n"
    assert empty.query(f"SELECT product_id FROM warehouse.dim_product WHERE product_id = '{ID}'") == [(ID,)]
    assert empty.query(
        f"SELECT order_id FROM warehouse.fact_sales JOIN warehouse.dim_product USING (product_key)"
        f" WHERE product_id = '{ID}' ORDER BY 1"
    ) == [("o1",), ("o2",)]


def test_archived_answers_that_name_the_person_go_and_raw_stands(world: World) -> None:
    for folder in ("archive/customers/2024-01-01", "archive/_former/customers/2024-01-01"):
        path = world.home / folder / "0001.csv"
        path.parent.mkdir(parents=True)
        path.write_bytes((world.home / "landing/customers/2024-01-01.csv").read_bytes())
    other = world.home / "archive/customers/2024-01-05/0001.csv"
    other.parent.mkdir(parents=True)
    other.write_text("customer_id,email\nb1,b@example.org\n")
    found = world.answer()
    assert found["found"]["archive"] == 2
    assert sorted(world.told(VALUES)) == sorted(LANDING)
    assert other.exists()
