"""What looks like an e-mail address is masked, alone or in a sentence; what does not stays to the last character."""

import polars as pl
import pytest

from data_platform.quality.masking import MASK, masked, masked_expr

ADDRESSES = {
    "ada.lovelace@example.com": MASK,
    "write to ada@example.com, or call": f"write to {MASK}, or call",
    "“ada@example.com” has 9 %": f"“{MASK}” has 9 %",
    "Ada <ada+news@example.com>; Bob <bob@example.com>": f"Ada <{MASK}>; Bob <{MASK}>",
    "customer_id=ada@example.com": f"customer_id={MASK}",
    "orders/2024-01-05/ada@example.com.csv": f"orders/2024-01-05/{MASK}",
    "mailto:ada@example.com": f"mailto:{MASK}",
    "'o'brien@example.com'": f"'{MASK}'",
    "ada@one@two": MASK,
    "ada＠example.com and ada﹫example.com": f"{MASK} and {MASK}",
    "ada%40example.com": MASK,
    "größe@müller.example": MASK,
    "two\nada@example.com\nlines": f"two\n{MASK}\nlines",
}
OTHERS = ("", "3 @ 10.00", "@home", "nobody@", "100 % of 40", "•••", "a line\nof text", "x%4", "nothing $0 to see")


@pytest.mark.parametrize("text", list(ADDRESSES))
def test_an_address_is_masked_wherever_it_stands(text: str) -> None:
    assert masked(text) == ADDRESSES[text]


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert masked(text) == text


def test_a_column_is_masked_as_its_texts_are() -> None:
    texts = [*ADDRESSES, *OTHERS, None]
    found = pl.DataFrame({"note": texts}).select(masked_expr(pl.col("note"))).get_column("note")
    assert found.to_list() == [*ADDRESSES.values(), *OTHERS, None]


def test_a_text_that_is_masked_once_is_masked_for_good() -> None:
    assert [masked(masked(text)) for text in ADDRESSES] == list(ADDRESSES.values())


def test_a_name_that_is_no_unicode_is_masked_too() -> None:
    assert masked("ada@example.com \udcff.csv") == f"{MASK} ?.csv"


def test_a_long_word_takes_no_long_time() -> None:
    # In a pattern that goes back for each sign this is a matter of minutes, not of milliseconds.
    long = "x" * 400_000
    assert masked(f"{long} ada@example.com") == f"{long} {MASK}"
