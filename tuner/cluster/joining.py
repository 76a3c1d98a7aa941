"""Joining a Ray cluster that is already running: its token, its versions, and our code on its nodes."""

import logging
import os
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tuner.cluster.node_checks import check_versions
from tuner.cluster.nodes import read_nodes
from tuner.verbosity import is_verbose

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("search_spaces", "tinytl", "tuner")
"""Packages that nodes import. They are sent as they are here, with uncommitted changes."""
ANSWER_TIMEOUT_S = 5.0
OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set if Ray runs this process as a job: its nodes have the job's working tree."""


def join(address: str) -> str:
    """Connects to a cluster and checks that its nodes can run trials; returns its dashboard's address, or "".

    Raises:
        ConfigError: if no cluster answers, it wants another token, or a node has other versions.
    """
    import ray

    where = _found_here() if address == "auto" else address
    if not where.startswith("ray://") and not os.environ.get("RAY_USE_TLS"):
        _check_token(f"--address {address}", where)
    sent = {} if OF_A_JOB in os.environ else {"runtime_env": _our_code()}
    try:
        context = ray.init(
            address=where,
            logging_level=logging.INFO if is_verbose() else logging.CRITICAL,
            log_to_driver=is_verbose(),
            **sent,
        )
    # ConnectionError, TimeoutError, RuntimeError of other versions, ValueError of an address, RayError, and a
    # bare Exception if no node of the cluster runs here: all from one call of Ray's, none from our code.
    except Exception as error:
        text = str(error).strip()
        reason = " ".join(text.split()) if "Version mismatch" in text else text.splitlines()[0]
        raise ConfigError(f"--address {address}: no Ray cluster can be joined there ({reason})") from None
    nodes = [node for node in read_nodes() if node.cpus or node.gpus]
    check_versions(nodes)
    return f"http://{context.dashboard_url}" if context.dashboard_url else ""


def _found_here() -> str:
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        found = None
    if found is None:
        raise ConfigError("--address auto: no Ray cluster runs on this machine: give its HOST:PORT")
    return str(found)


def _check_token(flag: str, address: str) -> None:
    """Asks for the cluster's id with our token: Ray itself would try for 20 s, and print each refusal."""
    import grpc
    from ray._private.authentication import authentication_token_setup as setup
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    token = [(key.lower(), value) for key, value in get_auth_headers_if_auth_enabled({}).items()]
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(
                b"", timeout=ANSWER_TIMEOUT_S, metadata=token
            )
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAUTHENTICATED:
                ours = "the one here is different" if token else "there is none here"
                raise ConfigError(
                    f"{flag}: the cluster wants its token, and {ours}: set RAY_AUTH_TOKEN, or copy "
                    "~/.ray/auth_token from its head"
                ) from None
            raise ConfigError(f"{flag}: what answers there is no Ray cluster ({code.name})") from None


def _our_code() -> dict[str, Any]:
    return {"py_modules": [str(ROOT / name) for name in PACKAGES], "excludes": ["**/__pycache__"]}
