"""A real `mlflow server` on the loopback, to be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time

SERVER_START_S = 180
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Evaluation jobs of language models: seven processes that no test needs.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Server:
    """Serves a database and, behind its proxy, artifacts in a folder beside it."""

    def __init__(self, database, *flags, env=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.flags = flags
        self.env = os.environ | SETTINGS | (env or {})
        self.start()

    def start(self):
        """Starts it and waits until it listens."""
        folder = self.database.parent
        argv = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.database}"]
        argv += ["--artifacts-destination", str(folder / "served"), "--workers", "1"]
        argv += ["--host", "127.0.0.1", "--port", str(self.port), *self.flags]
        # A session of its own: the server's workers end with it.
        with (folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                argv, cwd=folder, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SERVER_START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)

    def kill(self):
        """Kills it, if it is running, as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
