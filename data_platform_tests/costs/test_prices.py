"""prices.yaml: amounts stay exact, each day has the prices of its entry, and each mistake is told in one sentence."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from data_platform.costs.prices import load_prices
from data_platform.errors import SettingsError
from data_platform.settings import read_settings

TWO = """
currency: EUR
budget: {month: 120.50, warn_percent: 80}
prices:
  - from: 2024-01-01
    cpu_hour: 0.1
    lake_gb_month: 0.023
  - from: 2025-07-01
    instance_hour: 1_000.3
    fixed_month: "20.00"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return path


def test_amounts_are_the_decimals_that_were_written(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, TWO))
    assert prices is not None
    assert prices.currency == "EUR"
    assert prices.budget is not None
    assert (prices.budget.month, prices.budget.warn_percent) == (Decimal("120.50"), Decimal(80))
    first, second = prices.entries
    assert (first.cpu_hour, first.lake_gb_month, first.database_gb_month) == (Decimal("0.1"), Decimal("0.023"), 0)
    assert (second.instance_hour, second.fixed_month) == (Decimal("1000.3"), Decimal("20.00"))


def test_a_day_has_the_prices_of_the_entry_that_began_last(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, TWO))
    assert prices is not None
    first, second = prices.entries
    assert prices.first_day == date(2024, 1, 1)
    assert prices.at(date(2023, 12, 31)) is None
    assert prices.at(date(2024, 1, 1)) == prices.at(date(2025, 6, 30)) == first
    assert prices.at(date(2025, 7, 1)) == prices.at(date(2030, 1, 1)) == second


@pytest.mark.parametrize("text", [None, "", "# currency: EUR\n"])
def test_without_a_file_or_anything_in_it_there_are_no_prices(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml" if text is None else written(tmp_path, text)
    assert load_prices(path) is None


def test_where_it_lies_is_a_setting(tmp_path: Path) -> None:
    assert read_settings({"DAGSTER_HOME": str(tmp_path)}).prices_file == tmp_path / "prices.yaml"
    named = read_settings({"DAGSTER_HOME": str(tmp_path), "DATA_PLATFORM_PRICES": "conf/p.yaml"})
    assert named.prices_file == tmp_path / "conf" / "p.yaml"


PRICED = "currency: EUR\nprices: [{from: 2024-01-01"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{PRICED}, cpu_hour: -0.5}}]", "prices[1].cpu_hour cannot be used: it is -0.5, and nothing costs less"),
        (f"{PRICED}, cpu_hour: much}}]", "prices[1].cpu_hour cannot be used: 'much' is no number: write one"),
        (f"{PRICED}, cpu_hour: '0,05'}}]", "prices[1].cpu_hour cannot be used: '0,05' is no number"),
        (f"{PRICED}, cpu_hour: yes}}]", "prices[1].cpu_hour cannot be used: it must be a number, such as 0.05"),
        (f"{PRICED}, cpu_hour: .nan}}]", "prices[1].cpu_hour cannot be used: '.nan' is no number"),
        (f"{PRICED}, cpu_hour: 1e30}}]", "prices[1].cpu_hour cannot be used: it must be a number of at most"),
        (f"{PRICED}, cpu_hour: }}]", "prices[1].cpu_hour cannot be used: it must be a number, such as 0.05"),
        (f"{PRICED}, cpu_hours: 1}}]", "prices[1].cpu_hours is no known key (did you mean cpu_hour?): use from,"),
        (
            f"{PRICED}, cpu_hour: 1, instance_hour: 1}}]",
            "prices[1] cannot be used: it has both `cpu_hour` and `instance_hour`, so time would be paid twice: keep",
        ),
        (f"{PRICED}}}, {{from: 2024-01-01}}]", "prices cannot be used: two entries are from 2024-01-01: keep"),
        (
            f"{PRICED}}}, {{from: 2023-01-01}}]",
            "prices cannot be used: the entry from 2023-01-01 comes after that from 2024-01-01: put it before.",
        ),
        ("currency: EUR\nprices: [{from: soon}]", "prices[1].from must be a day, such as 2024-01-01."),
        ("currency: EUR\nprices: [{cpu_hour: 1}]", "prices[1].from is missing: add it."),
        ("currency: EUR\nprices: []", "prices must hold entries that begin with `- from: 2024-01-01`."),
        ("currency: EUR\nprices: 5", "prices must hold entries that begin with `- from: 2024-01-01`."),
        ("currency: EUR\nprices: [5]", "prices[1] must hold keys."),
        ("currency: EUR\nprices:", "prices must hold entries that begin with `- from: 2024-01-01`."),
        ("currency: EUR", "prices is missing: add it."),
        ("prices: [{from: 2024-01-01}]", "currency is missing: add it."),
        ("currency: euros\nprices: [{from: 2024-01-01}]", "currency must be three capitals, such as EUR."),
        (f"{PRICED}}}]\nbudget: {{month: -1}}", "budget.month cannot be used: it is -1, and nothing costs less"),
        (f"{PRICED}}}]\nbudget: {{}}", "budget.month is missing: add it."),
        (f"{PRICED}}}]\nbudget: {{month: 1, warn_percent: 0}}", "budget.warn_percent cannot be used: input"),
        (f"{PRICED}}}]\nbudget: {{months: 1}}", "budget.months is no known key (did you mean month?): use month"),
        (f"{PRICED}}}]\nbudgets: {{month: 1}}", "budgets is no known key (did you mean budget?): use"),
        ("currency: EUR\ncurrency: USD\n", ", line 1 is not valid YAML (currency is given twice): mend that line."),
        ("currency: [EUR", "is not valid YAML"),
        ("- currency", "must hold keys such as `currency:` and `prices:` at its left edge."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence_that_names_it(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        load_prices(path)
    sentence = str(raised.value)
    assert sentence.startswith(str(path))
    assert said in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_bytes(b"currency: \xff\n")
    with pytest.raises(SettingsError, match=r"is not UTF-8 \(byte 10\): save it as UTF-8\."):
        load_prices(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load_prices(path)
