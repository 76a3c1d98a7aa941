"""A Ray cluster, started here or joined, while the study is still being checked. Imports ray when asked."""

import functools
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from tinytl.errors import ConfigError
from tuner.cluster.joining import join
from tuner.config import StudyConfig
from tuner.next_commands import this_command
from tuner.verbosity import apply_verbosity

SETTINGS = {
    # Ray's own files for each trial and its tables in the terminal: the study has its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A failed trial has no metrics; it says why itself.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Ctrl-C and SIGTERM are the study's.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A study resumes from its records: Ray need not write its own state while trials run.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray prints a stack at SIGTERM, and the study never gets the signal.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # As docker/require.sh does on the nodes: a link that is cut for half a minute costs nothing.
    "RAY_grpc_keepalive_timeout_ms": "120000",
}
ON_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""If it is 0, as Ray sets it on desktop systems, processes call the machine 127.0.0.1 and listen there."""
STARTS = 3
"""How often to start Ray if its processes do not answer within Ray's own limit of half a minute."""
PAUSE_S = 2.0
"""Time for the processes of a failed start to end: they hold the dashboard's port."""
TIMED_OUT = "timed out during startup"
DASHBOARD_PORT_TAKEN = "already occupied"
"""Parts of Ray's own messages."""
SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""The longest name that Ray gives a socket below its folder."""
MOST_OF_A_SOCKET = 107
"""Bytes of a socket's path on Linux."""
PRELOADED = "torch,ray.tune"
"""Modules that a worker process imports when Ray starts it, not in its first trial: they need seconds."""


class Cluster:
    """Starts in a thread after `begin`: most of that time is spent waiting for Ray's processes."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self._thread = ThreadPoolExecutor(1, "ray")
        self._url: Future[str] | None = None

    def begin(self) -> None:
        """Starts Ray, or joins the cluster at `--address`, and returns at once.

        Raises:
            ConfigError: if Ray cannot start: in this process it runs already, or its folder has no place.
        """
        if self._url is None and not self.config.dry_run:
            wait(_leaving)
            _check_ray_is_free(self.config)
            self._url = self._thread.submit(_start, self.config)

    def dashboard_url(self) -> str:
        """Waits until the cluster is there and returns its dashboard's address, empty if it has none.

        Raises:
            ConfigError: if no cluster answers at `--address`, or its nodes have other versions.
        """
        self.begin()
        assert self._url is not None
        return self._url.result()

    def end(self) -> None:
        """Ends the cluster that was started here, or leaves the one that was joined."""
        if self._url is not None:
            import ray

            wait([self._url])
            # Before the thread: Ray's processes end with the thread that started them, and Ray would wait
            # 11 s for answers of processes that are gone.
            ray.shutdown()
            self._thread.shutdown()
            self._url = None

    def abandon(self) -> None:
        """Ends what `begin` began once it is there, and returns at once; the next cluster waits for that.

        For a study that is refused while Ray starts: its line must not wait, and Ray must not stay.
        """
        if self._url is not None:
            _leaving.append(self._thread.submit(_leave))  # in the thread whose end Ray's processes share
            self._thread.shutdown(wait=False)
            self._url = None


_leaving: list[Future[None]] = []
"""The ends of clusters that were abandoned. The interpreter waits for them at its own end."""


def _leave() -> None:
    import ray

    ray.shutdown()


def _check_ray_is_free(config: StudyConfig) -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise ConfigError("Ray runs in this process already: end it with ray.shutdown() first")
    if config.address is not None:
        return
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if variable is None:
        return
    folder = Path(os.environ[variable])
    longest = len(os.fsencode(folder / SOCKET))
    if longest > MOST_OF_A_SOCKET:
        raise ConfigError(
            f"{variable}={folder}: Ray's sockets lie below it, and their names would have {longest} bytes of "
            f"{MOST_OF_A_SOCKET} that a system takes: set RAY_TMPDIR to a shorter folder, such as /tmp"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{variable}={folder}: cannot be made ({error.strerror}), and Ray keeps its files below it: set "
            "RAY_TMPDIR to another folder"
        ) from None


def _start(config: StudyConfig) -> str:
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if config.address is None:
        os.environ.setdefault("RAY_preload_python_modules", PRELOADED)
        os.environ.setdefault(ON_NETWORK, "0")
    import ray
    from ray._private import ray_constants, services

    # Ray's dashboard shows the driver's command.
    ray._private.utils.get_entrypoint_name = lambda: shlex.join(this_command())
    # What goes wrong in a trial is printed by the study, in one line; Ray's own words are for --verbose.
    ray._private.worker._worker_logs_enabled = config.verbose
    apply_verbosity()
    if config.address is not None:
        return join(config.address)
    ray_constants.ENABLE_RAY_CLUSTER = os.environ[ON_NETWORK].lower() in (
        "1",
        "true",
    )  # Ray may have been imported before
    # A signal to a whole group of processes, as `timeout` sends it, is for the driver: it ends Ray when
    # everything is saved and recorded. Ray's processes end with the driver, however it ends.
    services.ConsolePopen = functools.partial(subprocess.Popen, process_group=0)
    reasons: list[str] = []
    for left in reversed(range(STARTS)):
        try:
            context = ray.init(
                address="local",
                num_cpus=config.workers,
                include_dashboard=config.dashboard,
                dashboard_port=config.dashboard_port,
                logging_level=logging.INFO if config.verbose else logging.CRITICAL,
                log_to_driver=config.verbose,
            )
            break
        except Exception as error:  # Ray's timeout is a bare Exception; an unknown text is raised again
            reasons.append(str(error))
            if not any(known in reasons[-1] for known in (TIMED_OUT, DASHBOARD_PORT_TAKEN)):
                raise
            ray.shutdown()
            if not left:
                raise ConfigError(_why_not(reasons, config)) from None
            time.sleep(PAUSE_S)
    _close_token()
    return f"http://{context.dashboard_url}" if context.dashboard_url else ""


def _close_token() -> None:
    """Lets no other user of the machine read Ray's token, which Ray writes for all to read."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    with suppress(OSError):  # there is none, or it is somebody else's
        token.chmod(0o600)


def _why_not(reasons: Sequence[str], config: StudyConfig) -> str:
    """Returns why no start came to anything. A port may be taken by our own start before it."""
    if all(DASHBOARD_PORT_TAKEN in reason for reason in reasons):
        return f"--dashboard-port {config.dashboard_port}: it is in use: give another port"
    return (
        f"Ray's processes did not answer within half a minute, {len(reasons)} times: is this machine busy or "
        "out of memory? Try again, or see its logs in /tmp/ray/session_latest/logs"
    )
