"""Every node that may train checks what it needs before the first trial: versions, folders, images.

Imports only ray, inside functions: a node imports this module before it is known to have anything else.
"""

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tuner.bucket.claims import Claim
from tuner.bucket.store import Bucket, open_bucket, told
from tuner.cluster.nodes import ANSWER_TIMEOUT_S, Node
from tuner.record.claim import LOCK_FILE, SEEN_BY

ARRIVES_WITHIN_S = 15.0
"""How long a file that a node wrote may need to show here: network file systems cache for some seconds."""


def check_versions(nodes: Sequence[Node]) -> None:
    """Compares the software of each node with this machine's. The processes that answer later train trials.

    Raises:
        ConfigError: naming the node, and both versions.
    """
    here = _versions()
    for node, (host, there) in _ask(nodes, _versions_there):
        for name, ours in here.items():
            if there[name] != ours:
                raise ConfigError(
                    f"{_at(node, host)} has {name} {there[name]}, this machine {ours}: install the "
                    "versions of requirements.lock on both"
                )


def check_images(nodes: Sequence[Node], images: Sequence[Path]) -> None:
    """Makes each node look for files that trials will read.

    Raises:
        ConfigError: naming the node, and what it does not see.
    """
    if images:
        for node, answer in _ask(nodes, _look_for, [str(path) for path in images]):
            _check(node, answer)


def check_bucket(nodes: Sequence[Node], bucket: Bucket, claim: Claim) -> None:
    """Makes each node read the driver's claim in the bucket, and write an object beside it.

    Raises:
        ConfigError: naming the node, and what it lacks: a package, credentials, or access.
    """
    for node, answer in _ask(nodes, _try_bucket, bucket.address, claim.key, claim.me["token"]):
        _check(node, answer)


def check_folders(nodes: Sequence[Node], folder: Path) -> None:
    """Makes each node read what the driver wrote to the study's folder, and write there itself.

    Raises:
        ConfigError: naming the node, and what it does not see.
    """
    lock = folder / LOCK_FILE
    try:
        for node, answer in _ask(nodes, _look_at, str(folder), lock.read_text()):
            if answer["problem"] is None and not _arrives(folder / answer["mark"]):
                answer["problem"] = f"writes to another {folder} than this machine's"
            _check(node, answer)
    finally:
        for mark in folder.glob(f"{SEEN_BY}*"):
            with suppress(OSError):
                mark.unlink()


def _ask(nodes: Sequence[Node], question: Callable[..., Any], *args: Any) -> list[tuple[Node, Any]]:
    """Calls a function on every node at the same time; returns each node's answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # It needs no CPU: a node with busy CPUs answers, too.
    ask = ray.remote(num_cpus=0, num_gpus=0, max_retries=0)(question)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)).remote(
            *args
        )
        for node in nodes
    ]
    answers = []
    for node, answer in zip(nodes, asked, strict=True):
        try:
            answers.append((node, ray.get(answer, timeout=ANSWER_TIMEOUT_S)))
        except ray.exceptions.GetTimeoutError:
            raise ConfigError(f"node {node.address} has not answered for {ANSWER_TIMEOUT_S:g} s") from None
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            reason = str(cause).strip().splitlines() or [type(error).__name__]
            raise ConfigError(f"node {node.address} cannot run trials: {reason[-1]}") from None
    return answers


def _versions_there() -> tuple[str, dict[str, str]]:
    from tuner.trial import trainable  # noqa: F401 - else its first trial waits for this

    return socket.gethostname(), _versions()


def _versions() -> dict[str, str]:
    # Without the build (`+cu126`): this machine may have no GPU. Ray compares itself and Python.
    return {name: version(name).partition("+")[0] for name in ("torch", "torchvision")}


def _check(node: Node, answer: dict[str, Any]) -> None:
    if answer["problem"] is not None:
        raise ConfigError(f"{_at(node, answer['host'])} {answer['problem']}")


def _look_for(images: Sequence[str]) -> dict[str, Any]:
    for path in images:
        if not os.access(path, os.R_OK):
            way_out = "mount --data-dir there, or give --set loading=memory"
            problem = f"cannot read {path}, which its trials would: {way_out}"
            return {"host": socket.gethostname(), "problem": problem}
    return {"host": socket.gethostname(), "problem": None}


def _try_bucket(address: str, claim: str, token: str) -> dict[str, Any]:
    problem = None
    try:
        bucket = open_bucket(address)
        bucket.check_writable()
        with told(f"--runs-dir {address}"):
            content = bucket.read(claim)
        if content is None or json.loads(content)["token"] != token:
            problem = f"sees another bucket at {address} than this machine: give both the same endpoint"
    except ConfigError as error:
        problem = f"cannot use the bucket: {error}"
    return {"host": socket.gethostname(), "problem": problem}


def _look_at(folder: str, lock_text: str) -> dict[str, Any]:
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    mark = f"{SEEN_BY}{node_id[:12]}"
    answer = {"host": socket.gethostname(), "mark": mark, "problem": None}
    shared = "give --runs-dir a folder that all nodes share"
    try:
        if Path(folder, LOCK_FILE).read_text() != lock_text:
            return answer | {"problem": f"sees another {folder} than this machine: {shared}"}
    except OSError as error:
        return answer | {"problem": f"does not see {folder} ({error.strerror}): {shared}"}
    try:
        Path(folder, mark).write_text(node_id)
    except OSError as error:
        user = getpass.getuser()
        return answer | {"problem": f"cannot write to {folder} as user {user} ({error.strerror})"}
    return answer


def _arrives(path: Path) -> bool:
    deadline = time.monotonic() + ARRIVES_WITHIN_S
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        list(path.parent.iterdir())  # makes a network file system look again
        time.sleep(0.1)
    return True


def _at(node: Node, host: str) -> str:
    return f"node {node.address} ({host})"
