"""The lock, a run and data on an S3 server of this machine. Wants `pip install s3fs "moto[s3,server]"`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.api import load, run_plan
from robustkit.data.load import load_data
from robustkit.host import Host
from robustkit.params import UsageError
from robustkit.pipeline import lease
from robustkit.pipeline.plan import make_plan
from robustkit.pipeline.spec import BenchSpec
from robustkit.pipeline.store import RunStore

s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system with a bucket "bucket"."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    found = s3fs.S3FileSystem()
    found.makedirs("bucket", exist_ok=True)  # the server keeps it as long as the process lives
    yield found
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_a_run_in_a_bucket(
    bucket: Any, spec: Callable[..., BenchSpec], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.3)
    plan = make_plan(spec(defenses=()), host)
    local, remote = (run_plan(plan, place, host) for place in (tmp_path / "run", "s3://bucket/run"))
    kept = load("s3://bucket/run")
    for found in (remote, kept):
        assert found.table["worst case"].equals(local.table["worst case"])
    assert not [name for name in bucket.find("bucket/run") if "/blocks/" in name or name.endswith(".lock")]
    store = RunStore("s3://bucket/run")
    store.open()
    with pytest.raises(UsageError, match="another process is at work in s3://bucket/run"):
        RunStore("s3://bucket/run").open()
    with pytest.raises(FileExistsError):
        bucket.pipe_file("bucket/run/.lock", b"{}", mode="create")
    store.close()


def test_shards_and_folders_in_a_bucket(bucket: Any, host: Host) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for k, image in enumerate(pixels):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "png")
            bucket.pipe_file(f"bucket/set/{'ab'[k % 2]}/{k:02}.png", content.getvalue())
            for name, what in ((f"{k:02}.png", content.getvalue()), (f"{k:02}.cls", str(k % 2).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(what)
                tar.addfile(member, io.BytesIO(what))
    bucket.pipe_file("bucket/s-0.tar", shard.getvalue())
    whole = load_data("webdataset:s3://bucket/s-{0..0}.tar:test=s3://bucket/s-0.tar:size=8", host=host)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(whole.test.batch(torch.arange(20))[0], expected)
    folder = load_data("imagefolder:s3://bucket/set:size=8", host=host)
    assert folder.classes == ("a", "b")
    x, _ = folder.test.batch(torch.arange(4))
    assert all(any(torch.equal(image, other) for other in expected) for image in x)
