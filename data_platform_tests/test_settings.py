"""Secrets that come in files."""

from pathlib import Path

import pytest

from data_platform.errors import SettingsError
from data_platform.settings import read_settings

URL = "postgresql://loader:s3cret@db:5432/warehouse"


@pytest.mark.parametrize("variable", ["DATA_PLATFORM_WAREHOUSE_URL", "DATA_PLATFORM_DAGSTER_URL"])
def test_a_url_may_be_in_a_file(variable: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    chosen = read_settings({f"{variable}_FILE": str(tmp_path / "url")})
    assert URL in (chosen.warehouse_url, chosen.dagster_url)


def test_a_file_that_is_not_there_or_holds_no_url_is_named_and_its_text_is_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"DATA_PLATFORM_WAREHOUSE_URL_FILE is .*nowhere, which cannot be read"):
        read_settings({"DATA_PLATFORM_WAREHOUSE_URL_FILE": str(tmp_path / "nowhere")})
    (tmp_path / "url").write_text("s3cret")
    with pytest.raises(SettingsError, match="must begin with postgresql://") as refused:
        read_settings({"DATA_PLATFORM_WAREHOUSE_URL_FILE": str(tmp_path / "url")})
    assert "s3cret" not in str(refused.value)
    (tmp_path / "url").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is no text"):
        read_settings({"DATA_PLATFORM_WAREHOUSE_URL_FILE": str(tmp_path / "url")})


def test_a_variable_and_its_file_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    with pytest.raises(
        SettingsError, match="DATA_PLATFORM_WAREHOUSE_URL and DATA_PLATFORM_WAREHOUSE_URL_FILE are both"
    ):
        read_settings({"DATA_PLATFORM_WAREHOUSE_URL": URL, "DATA_PLATFORM_WAREHOUSE_URL_FILE": str(tmp_path / "url")})
