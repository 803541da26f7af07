"""retention.yaml: what it may say, and the sentence for what it may not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_platform.errors import SettingsError
from data_platform.retention.config import Retention, load_retention
from data_platform.settings import Settings, read_settings

TEMPLATE = Path(__file__).resolve().parents[2] / "data_platform" / "retention" / "template.yaml"


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    told = {"DAGSTER_HOME": str(tmp_path), "DATA_PLATFORM_HOME": str(tmp_path / "home")}
    return read_settings(told)


def load(chosen: Settings, text: str) -> Retention:
    chosen.retention_file.write_text(text)
    return load_retention(chosen)


def test_without_a_file_and_with_one_of_comments_nothing_grows_old(chosen: Settings) -> None:
    assert load_retention(chosen) == Retention()
    assert load(chosen, TEMPLATE.read_text()) == Retention()


def test_every_example_of_the_template_is_understood(chosen: Settings) -> None:
    text = re.sub(r"(?m)^#(?=\w|  )", "", TEMPLATE.read_text())
    found = load(chosen, text)
    assert found.raw
    assert found.staging
    assert found.dagster
    assert (found.dagster.keep_days, found.raw.keep_days, found.staging.keep_days) == (90, 400, 800)
    assert (found.raw.archive, found.staging.archive) == ("s3://cold-storage/data-platform", "/mnt/cold/data-platform")


def test_a_relative_archive_is_a_folder_beside_the_file_and_not_of_the_shell(chosen: Settings) -> None:
    found = load(chosen, "staging: {keep_days: 30, archive: cold/}")
    assert found.staging
    assert found.staging.archive == str(chosen.dagster_home / "cold")


def test_the_lake_by_another_name_is_no_archive(chosen: Settings, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big")
    for lake, archive in (
        (str(tmp_path / "link"), str(tmp_path / "big")),
        ("s3://bucket/lake", "s3://bucket//lake"),
    ):
        with pytest.raises(SettingsError, match="overlaps the lake"):
            load(replace(chosen, lake_url=lake), f"staging: {{keep_days: 30, archive: '{archive}'}}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stageing: {keep_days: 30}", "stageing is no known key (did you mean staging?): use dagster, raw or staging."),
        ("dagster: {keep: 30}", "dagster.keep is no known key (did you mean keep_days?): use keep_days."),
        ("dagster: {}", "dagster.keep_days is missing: add it."),
        ("dagster: {keep_days: -1}", "dagster.keep_days is -1: write a whole number of days, at least 7."),
        ("dagster: {keep_days: 1.5}", "dagster.keep_days is 1.5: write a whole number of days, at least 7."),
        ("dagster: {keep_days: thirty}", "dagster.keep_days is 'thirty': write a whole number of days, at least 7."),
        ("raw: {keep_days: 30}", "raw cannot be used: it must have one of `archive: URL` and `delete: true`."),
        (
            "raw: {keep_days: 30, archive: /a, delete: true}",
            "raw cannot be used: it must have one of `archive: URL` and",
        ),
        ("staging: {keep_days: 30}", "staging.archive is missing: add it."),
        (
            "staging: {keep_days: 30, archive: gs://cold}",
            "staging.archive cannot be used: it must be a folder, or s3://",
        ),
        ("staging: {keep_days: 30, archive: ''}", "staging.archive cannot be used: it is empty: name a folder"),
        ("staging: {keep_days: 30, archive: 's3://k:p@cold'}", "staging.archive cannot be used: it must be a folder"),
        ("staging: {keep_days: 30, archive: home/lake/cold}", "which overlaps the lake"),
        ("staging: {keep_days: 30, archive: home}", "which overlaps the lake"),
        ("raw: {keep_days: 30, archive: home/landing/x}", "which overlaps the landing folder"),
        ("raw: {keep_days: 30, delete: true}\nraw: {keep_days: 40, delete: true}", "a key is given twice"),
        ("raw: [", "is not valid YAML"),
        ("- raw", "must hold keys such as `raw:` at its left edge."),
    ],
)
def test_what_it_may_not_say_is_told_with_the_key(chosen: Settings, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as told:
        load(chosen, text)
    assert str(told.value).startswith(str(chosen.retention_file))
    assert sentence in str(told.value)


def test_an_archive_within_a_lake_in_a_bucket_is_refused(chosen: Settings) -> None:
    remote = replace(chosen, lake_url="s3://data/lake")
    with pytest.raises(SettingsError, match="overlaps the lake"):
        load(remote, "staging: {keep_days: 30, archive: s3://data/lake/cold}")
    assert load(remote, "staging: {keep_days: 30, archive: s3://data/lake_cold}").staging is not None


def test_a_file_that_cannot_be_read_is_told(chosen: Settings) -> None:
    chosen.retention_file.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load_retention(chosen)
