"""What answers at an address, asked before Ray would try for 20 s. Clusters are joined in integration."""

from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from ray._private import services
from ray._private.authentication import authentication_token_setup, http_token_authentication

from tests.support.studies import free_port
from tinytl.errors import ConfigError
from tuner.cluster import joining
from tuner.cluster.joining import join

ASKED = "/ray.rpc.NodeInfoGcsService/GetClusterId"
TOKEN = "the cluster's own"


@contextmanager
def head(token=None):
    """A server that knows the one call, and may want a token; gives its address and the calls."""
    calls = []

    def answer(request, context):
        given = dict(context.invocation_metadata()).get("authorization")
        calls.append(given)
        if token is not None and given != token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return b""

    method = grpc.unary_unary_rpc_method_handler(answer)
    service, name = ASKED.strip("/").split("/")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: method})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", calls
    finally:
        server.stop(None).wait()


@pytest.fixture
def our_token(monkeypatch):
    """Sets the token that this machine has; Ray's own reading of it would stay for the whole process."""

    def set_it(token):
        headers = {} if token is None else {"Authorization": token}
        monkeypatch.setattr(
            http_token_authentication, "get_auth_headers_if_auth_enabled", lambda given: headers
        )

    name = "maybe_enable_token_auth_if_token_available"
    monkeypatch.setattr(authentication_token_setup, name, lambda warn_if_disabled: None)
    set_it(None)
    return set_it


@pytest.mark.parametrize(("wanted", "ours"), [(None, None), (None, TOKEN), (TOKEN, TOKEN)])
def test_a_head_that_knows_us_is_asked_once_with_our_token(wanted, ours, our_token):
    our_token(ours)
    with head(wanted) as (address, calls):
        joining._check_token("--address x", address)
    assert calls == [ours]


@pytest.mark.parametrize(("ours", "said"), [(None, "none here"), ("another", "different")])
def test_a_head_that_wants_its_token_says_whether_there_is_one_here(ours, said, our_token):
    our_token(ours)
    with head(TOKEN) as (address, _), pytest.raises(ConfigError, match="RAY_AUTH_TOKEN") as told:
        join(address)
    assert said in str(told.value) and f"--address {address}" in str(told.value)
    assert TOKEN not in str(told.value) and "\n" not in str(told.value)


def test_where_nothing_answers_is_no_cluster(our_token):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"^--address {address}: .*UNAVAILABLE"):
        join(address)


def test_what_answers_but_is_no_head_is_no_cluster(our_token):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(ConfigError, match="UNIMPLEMENTED"):
            join(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("found", [None, ConnectionError("no Ray here")])
def test_a_machine_without_a_cluster_is_one_line(found, monkeypatch):
    def look(address):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", look)
    with pytest.raises(ConfigError, match=r"^--address auto: .*HOST:PORT"):
        join("auto")


def test_nodes_are_sent_every_package_that_a_trial_imports_and_no_compiled_file():
    sent = joining._our_code()
    packages = [path.rpartition("/")[2] for path in sent["py_modules"]]
    assert packages == ["search_spaces", "tinytl", "tuner"]
    assert all((joining.ROOT / name / "__init__.py").is_file() for name in packages)
    assert sent["excludes"] == ["**/__pycache__"]
