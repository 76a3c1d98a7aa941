import pytest

from tuner.passwords import without_password, without_passwords


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:se%3Acr%40t@db:5432/study", "postgresql://me@db:5432/study"),
        (
            "postgresql+psycopg://me:a/b@db/study?sslmode=require",
            "postgresql+psycopg://me@db/study?sslmode=require",
        ),
        ("postgresql://db/study?user=me&password=secret", "postgresql://db/study?user=me"),
        ("postgresql://db/study?password=secret&user=me", "postgresql://db/study?user=me"),
        ("postgresql://me:s3/cr@et@db:5432/x", "postgresql://me@db:5432/x"),
        ("/mnt/what?", "/mnt/what?"),
        ("postgresql://me@db/study", "postgresql://me@db/study"),
        ("http://me:s3/cret@mlflow:5000", "http://mlflow:5000"),
        ("http://127.0.0.1:5000/x@y", "http://127.0.0.1:5000/x@y"),
        ("http://me:secret@mlflow:5000/x@y", "http://mlflow:5000/x@y"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
        ("/a/folder:with@signs", "/a/folder:with@signs"),
    ],
)
def test_a_password_is_taken_out_and_the_rest_stays(address, shown):
    assert without_password(address) == shown
    assert without_passwords(["launch.py", f"--storage={address}", "--storage", address]) == [
        "launch.py",
        f"--storage={shown}",
        "--storage",
        shown,
    ]
