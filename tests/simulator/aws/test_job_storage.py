import uuid
from pathlib import PurePosixPath

import pytest
from hypothesis import given, strategies as st

from simulator.aws.job_storage import Checkpoints, JobDataError, JobStorage, Place, relative_name

SEGMENT = st.text("abc.-_ 1é", min_size=1, max_size=6).filter(lambda text: text not in {".", ".."})


@pytest.fixture
def place(client):
    bucket = f"storage-{uuid.uuid4().hex}"
    client("s3").create_bucket(Bucket=bucket)
    return Place(bucket, "prefix")


@pytest.fixture
def storage(client):
    return JobStorage(client("s3"))


@given(st.lists(SEGMENT, min_size=1, max_size=3), st.lists(SEGMENT, min_size=1, max_size=3), st.booleans())
def test_below_a_prefix_the_rest_of_the_key_is_the_name(prefix, rest, slash):
    place = "/".join(prefix) + ("/" if slash else "")
    assert relative_name(place, "/".join([*prefix, *rest])) == PurePosixPath(*rest)


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("data/rows.csv", "data/rows.csv", "rows.csv"),
        ("data/row", "data/rows.csv", "rows.csv"),
        ("", "data/rows.csv", "data/rows.csv"),
    ],
)
def test_an_exact_key_and_a_bare_prefix(prefix, key, name):
    assert relative_name(prefix, key) == PurePosixPath(name)


@pytest.mark.parametrize("key", ["data/../../etc/passwd", "data/.."])
def test_a_name_that_leaves_the_folder_is_refused(key):
    with pytest.raises(JobDataError, match="cannot be a file of the job"):
        relative_name("data", key)


def test_what_is_uploaded_comes_down_again(storage, place, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.bin").write_bytes(b"\x00" * 10)
    (source / "b.txt").write_text("b")
    assert storage.upload_folder(source, place) == 2
    assert storage.download(place, tmp_path / "target") == 2
    assert (tmp_path / "target" / "deep" / "a.bin").read_bytes() == b"\x00" * 10


def test_an_empty_prefix_and_a_missing_bucket_are_named(storage, place, tmp_path):
    with pytest.raises(JobDataError, match=f"no object has the prefix s3://{place.bucket}/prefix"):
        storage.download(place, tmp_path)
    assert storage.download(place, tmp_path, may_be_empty=True) == 0
    with pytest.raises(JobDataError, match="cannot download s3://no-such-bucket/x"):
        storage.download(Place("no-such-bucket", "x"), tmp_path)
    with pytest.raises(JobDataError, match="not an S3 URI"):
        Place.parse("/local/path")


def test_checkpoints_move_only_what_changed_and_come_back(storage, place, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoints = Checkpoints(storage, first, place)
    assert checkpoints.restore() == 0
    (first / "step-1").write_text("1")
    assert (checkpoints.sync(), checkpoints.sync()) == (1, 0)
    (first / "step-1").write_text("1 again")
    (first / "step-2").write_text("2")
    assert checkpoints.sync() == 2
    resumed = Checkpoints(storage, second, place)
    assert resumed.restore() == 2
    assert (second / "step-1").read_text() == "1 again"
    assert resumed.sync() == 0
