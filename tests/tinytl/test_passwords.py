import pytest

from tinytl.passwords import set_apart, whole, without_password, without_passwords


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
        ("http://me:p@ss@mlflow:5000/x", "http://mlflow:5000/x"),
        ("https://TOKEN@mlflow/x", "https://mlflow/x"),
        ("postgresql://me:p@s/s@w@db/x", "postgresql://me@db/x"),
        ("postgresql://me:a?b@db/x", "postgresql://me@db/x"),
        ("postgresql://me:1/2@db/x", "postgresql://me@db/x"),
        ("mssql+pyodbc://me@db/x?driver=ODBC&PWD=secret", "mssql+pyodbc://me@db/x?driver=ODBC"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dsecret", "mssql+pyodbc:///"),
        ("mysql://db/x?passwd=secret;charset=utf8", "mysql://db/x?charset=utf8"),
        ("postgresql://db/x?sslmode=verify-full&sslpassword=secret", "postgresql://db/x?sslmode=verify-full"),
        (
            "https://b.s3.amazonaws.com/w.pth?X-Amz-Algorithm=AWS4&X-Amz-Credential=A%2FB&X-Amz-Date=1"
            "&X-Amz-Expires=60&X-Amz-Signature=0f&versionId=7",
            "https://b.s3.amazonaws.com/w.pth?versionId=7",
        ),
        (
            "https://b.s3.amazonaws.com/w.pth?AWSAccessKeyId=A&Signature=x&Expires=1",
            "https://b.s3.amazonaws.com/w.pth",
        ),
        (
            "https://storage.googleapis.com/b/w?X-Goog-Date=1&X-Goog-Signature=ab",
            "https://storage.googleapis.com/b/w",
        ),
        (
            "https://a.blob.core.windows.net/c/w.pth?sv=2&sr=b&sig=ab%3D&se=3&sp=r",
            "https://a.blob.core.windows.net/c/w.pth",
        ),
        ("https://hub/w.pth?access_token=x", "https://hub/w.pth"),
        ("https://hub/w.pth?pass=x&jwt=y&bearer=z&tokenizer=bpe", "https://hub/w.pth?tokenizer=bpe"),
        ("postgresql://db:5432/x?user=me@server&password=secret", "postgresql://db:5432/x?user=me@server"),
        ("http://mlflow:5000?u=a@b&token=hush", "http://mlflow:5000?u=a@b"),
        ("mysql://db:3306/x?ssl_ca=/a@b", "mysql://db:3306/x?ssl_ca=/a@b"),
        ("http://[::1]:5000/x@y", "http://[::1]:5000/x@y"),
        ("http://me:secret@[::1]:5000/x", "http://[::1]:5000/x"),
        ("https://hub/w.pth?se=1&expires=2&download=true", "https://hub/w.pth?se=1&expires=2&download=true"),
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


def test_every_address_of_a_text_is_looked_at():
    text = "from http://me:a@b:1/x?token=t to postgresql://me:b@c/d, and so on: 3@4"
    assert without_password(text) == "from http://b:1/x to postgresql://me@c/d, and so on: 3@4"


def test_what_is_set_apart_can_be_used_and_stays_in_this_process():
    shown = set_apart("https://me:secret@host/w.pth?sig=s&v=1")
    assert shown == "https://host/w.pth?v=1"
    assert whole(shown) == "https://me:secret@host/w.pth?sig=s&v=1"
    assert set_apart(shown) == shown and whole(shown) != shown  # of a record that is read again
    assert set_apart("runs/a@b") == whole("runs/a@b") == "runs/a@b"
