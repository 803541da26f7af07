"""The same with the lake in a bucket of a real S3 server (moto's)."""

import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from data_platform.lake_s3 import S3Lake
from data_platform.retention import archiving
from data_platform_tests.conftest import throw_away
from data_platform_tests.erasure.world import DAYS, World, fill, holds

AWS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture
def client() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="key",
        aws_secret_access_key="secret",
    )  # fmt: skip
    server.stop()


def test_a_person_leaves_a_lake_in_a_bucket_and_does_not_come_back(
    client: Any, server: str, warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"lake-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)

    def told() -> list[str]:
        found = client.list_objects_v2(Bucket=bucket)["Contents"]
        content = {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}
        return [key for key, value in content.items() if holds(Path(key).suffix, value)]

    with throw_away(server) as dagster:
        home = tmp_path / "home"
        home.mkdir()
        more = {**AWS, "AWS_ENDPOINT_URL": client.meta.endpoint_url, "AWS_EC2_METADATA_DISABLED": "true"}
        world = World(home, warehouse_url, dagster, more | {"DATA_PLATFORM_LAKE_URL": f"s3://{bucket}/data"})
        fill(world)
        world.load()
        assert {key.split("/")[1] for key in told()} == {
            "raw_customers", "raw_orders", "stg_customers", "stg_orders", "quarantine_customers", "quarantine_orders",
        }  # fmt: skip
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        lake, cold = (S3Lake(f"s3://{bucket}/{prefix}", tmp_path) for prefix in ("data", "cold"))
        for asset in ("raw_orders", "stg_orders"):
            stamp = lake.stamp(asset, day := date.fromisoformat(DAYS[1]))
            assert stamp is not None
            copied = archiving.copy(lake, cold, f"s3://{bucket}/cold", asset, day, stamp)
            assert copied is not None
            assert archiving.settle(lake, copied)
        assert len([key for key in told() if key.startswith("cold/")]) == 3, "quarantine is there, too"
        held = client.list_objects_v2(Bucket=bucket, Prefix="data/")["Contents"]
        assert [file.path.key for file in lake.files("")] == [one["Key"] for one in held], "the search sees them all"
        assert world.answer()["left"] == []
        landing = sorted(f"landing/{entity}/{day}.csv" for entity in ("customers", "orders") for day in DAYS)
        assert told() == []
        assert sorted(world.told()) == landing
        world.load()
        assert told() == []
        assert sorted(world.told()) == landing
