"""A Ray cluster on the loopback, with a token."""

import contextlib
import json
import os
import sys
import urllib.request
from pathlib import Path

from tests.support.studies import free_port, started

PROGRAMS = Path(sys.executable).parent
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c" * 32}


class RayCluster:
    """A head with its dashboard, and nodes that know nothing of this repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address, self.dashboard = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.url = f"http://{self.dashboard}"

    def node(self, log: Path, *flags: str, before: tuple[str, ...] = (), env: dict[str, str] | None = None):
        ports = ["--dashboard-agent-listen-port", str(free_port())]
        argv = ["env", "-u", "PYTHONPATH", "-C", str(self.folder), *before, str(PROGRAMS / "ray"), "start"]
        # A job is run by the python that is found first.
        path = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        argv += [*ports, *flags, "--block", "--disable-usage-stats"]
        return started(argv, log, TOKEN | path | (env or {}))

    def head(self, log: Path, env: dict[str, str] | None = None):
        host, port = self.dashboard.split(":")
        flags = ["--head", "--port", self.address.rpartition(":")[2], "--num-cpus", "1"]
        flags += ["--include-dashboard", "true", "--dashboard-host", host, "--dashboard-port", port]
        return self.node(log, *flags, "--temp-dir", str(self.folder), env=env)

    def nodes_alive(self) -> int:
        request = urllib.request.Request(f"{self.url}/api/v0/nodes")
        request.add_header("Authorization", f"Bearer {TOKEN['RAY_AUTH_TOKEN']}")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]["result"]
            return sum(node["state"] == "ALIVE" for node in found)
        return 0
