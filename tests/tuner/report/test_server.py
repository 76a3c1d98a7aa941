import socket
import urllib.error
import urllib.request

import pytest

from tuner.report.server import PageServer, served


@pytest.fixture
def page():
    page = PageServer()
    page.publish("<p>one", "v1")
    return page


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str, str | None]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["ETag"]


def test_a_browser_gets_the_page_and_then_only_what_is_new(page):
    with served(page) as url:
        assert ask(url) == (200, "<p>one", '"v1"') and page.handed == "v1"
        assert ask(url, **{"If-None-Match": '"v1"'})[:2] == (304, "")
        page.publish("<p>two", "v2")
        assert ask(url, **{"If-None-Match": '"v1"'}) == (200, "<p>two", '"v2"')
        assert ask(url, method="HEAD") == (200, "", '"v2"')
        assert page.unasked_s < 10


def test_nothing_else_is_served(page):
    with served(page) as url:
        for path in ("x", "?a", "../etc/passwd", "report.html"):
            assert ask(url + path)[0] == 404
        assert ask(url, method="POST")[0] == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "evil.example:{port}", "127.0.0.1.evil:{port}", ""]
)
def test_another_name_of_the_host_gets_nothing(page, host):
    with served(page) as url:
        port = url.rstrip("/").rpartition(":")[2]
        status, text, _ = ask(url, Host=host.format(port=port))
        assert status == 403 and "one" not in text
        assert ask(url, Host=f"localhost:{port}")[0] == 200


def test_it_listens_at_the_loopback_and_ends_with_its_block(page):
    with served(page) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        assert url == f"http://127.0.0.1:{port}/"
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass
