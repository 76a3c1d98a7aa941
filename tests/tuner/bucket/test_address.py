import pytest

from tinytl.errors import ConfigError
from tuner.bucket.address import checked_runs_dir, is_bucket


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("runs", "runs"),
        ("/srv/my runs", "/srv/my runs"),
        ("file:///srv/my%20runs", "/srv/my runs"),
        ("file://localhost/srv/runs", "/srv/runs"),
        ("s3://team-1/a/b/", "s3://team-1/a/b"),
        ("s3://team", "s3://team"),
        ("GS://team/a_b=1", "gs://team/a_b=1"),
    ],
)
def test_a_folder_or_a_bucket_is_read_in_one_spelling(given, read):
    assert checked_runs_dir(given) == read == checked_runs_dir(read)
    assert is_bucket(read) == (read[:2] in ("s3", "gs"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hdfs://host/runs", "hdfs:// is not supported: name a folder, s3://BUCKET/PREFIX or gs://"),
        ("file://host/runs", "write the whole path of a folder, such as file:///srv/runs"),
        ("s3://", "write s3://BUCKET/PREFIX"),
        ("s3://team/../other", "write s3://BUCKET/PREFIX"),
        ("s3://team//b", "write s3://BUCKET/PREFIX"),
        ("gs://team/a?b", "write gs://BUCKET/PREFIX"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(given, said):
    with pytest.raises(ConfigError, match=f"^--runs-dir {given.replace('?', '.')}: ") as caught:
        checked_runs_dir(given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_keys_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        checked_runs_dir("s3://me:geheim@team/runs")
    assert "geheim" not in str(caught.value)
    assert "keys and endpoints are given by environment variables" in str(caught.value)
