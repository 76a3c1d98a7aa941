import asyncio
import io
import threading
from contextlib import contextmanager

import pytest
from aiohttp import web
from rich.console import Console

from tests.support.studies import free_port
from tinytl.errors import ConfigError
from tuner.jobs import client as job_client
from tuner.jobs.submit import watch

pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # what Ray passes to aiohttp


@contextmanager
def dashboard(port, tails, statuses):
    """What Ray's dashboard says of a job: a tail is sent and then torn, but for the last; then it is shut."""
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def version(request):
        return web.json_response({"version": "4", "ray_version": "2.50.0", "ray_commit": "c"})

    async def info(request):
        job = {"type": "SUBMISSION", "submission_id": "j", "entrypoint": "e", "status": statuses.pop(0)}
        return web.json_response(job)

    async def tail(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(tails.pop(0))
        if tails:
            await asyncio.sleep(0.1)
            request.transport.abort()
        return socket

    async def serve():
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/j", info)
        app.router.add_get("/api/jobs/j/logs/tail", tail)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        started.set()
        await ended.wait()
        await runner.cleanup()

    started = threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    try:
        yield job_client.connect("--address", f"http://127.0.0.1:{port}")
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(job_client, "AWAY_S", 0.3)
    monkeypatch.setattr(job_client, "PAUSE_S", 0.1)


def test_a_connection_that_breaks_is_made_again_and_nothing_is_printed_twice(capsys):
    with dashboard(free_port(), ["one\n", "one\ntwo\n"], ["RUNNING", "SUCCEEDED"]) as client:
        assert job_client.follow(client, "j") == 0
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_dashboard_that_stays_away_is_one_line_and_how_to_go_on():
    port, said = free_port(), io.StringIO()
    address = f"http://127.0.0.1:{port}"
    with dashboard(port, [], []) as client:
        pass
    with pytest.raises(ConfigError, match=f"^{address}: the dashboard has not answered about job j for 0 s$"):
        watch(client, address, "s", "j", Console(file=said, width=200))
    assert "study s may still be running" in said.getvalue()
    assert f"Watch:  python -m tuner jobs --follow s --address {address}" in said.getvalue()
