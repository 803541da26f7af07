"""The picture of a figure over time: a small PNG that marks the odd day and fits into metadata."""

import base64
import struct
from datetime import date, timedelta

import pytest

from data_platform.quality.trends import HEIGHT, WIDTH, picture, trend

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(29)]
USUAL = [1000.0 + 10 * (number % 5) for number in range(28)]


def size(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("odd", [400.0, 90_000.0, 0.0, -50.0])
def test_a_trend_is_a_small_png(odd: float) -> None:
    png = trend(DAYS, [*USUAL, odd], 900, 1100, DAYS[-1])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 15_000
    width, height = size(png)
    assert abs(width - WIDTH) <= 20
    assert abs(height - HEIGHT) <= 20


def test_the_odd_day_the_band_and_the_values_are_drawn() -> None:
    pictures = {
        trend(DAYS, [*USUAL, 400.0], 900, 1100, DAYS[-1]),
        trend(DAYS, [*USUAL, 400.0], 900, 1100, DAYS[3]),
        trend(DAYS, [*USUAL, 400.0], 700, 1100, DAYS[-1]),
        trend(DAYS, [*USUAL, 500.0], 900, 1100, DAYS[-1]),
    }
    assert len(pictures) == 4


def test_a_partition_that_stands_alone_is_drawn() -> None:
    assert trend(DAYS[:1], [5.0], 5.0, 5.0, DAYS[0]).startswith(b"\x89PNG")


def test_a_picture_is_markdown_that_brings_its_bytes() -> None:
    value = picture(b"\x89PNG", "rows [per day]").value
    encoded = base64.b64encode(b"\x89PNG").decode()
    assert value == f"![rows (per day)](data:image/png;base64,{encoded})"
