"""What a node is asked, with this process as the node. Other machines: tests/integration/test_cluster.py."""

from types import SimpleNamespace

import pytest
import ray

from tinytl.errors import ConfigError
from tuner.bucket.claims import claimed
from tuner.bucket.store import open_bucket
from tuner.cluster import node_checks
from tuner.cluster.node_checks import check_bucket, check_folders, check_images, check_versions
from tuner.cluster.nodes import Node
from tuner.record.claim import LOCK_FILE, SEEN_BY

NODE = Node(cpus=2.0, node_id="0123456789abcdef", address="10.0.0.2")
MARK = f"{SEEN_BY}{NODE.node_id[:12]}"


@pytest.fixture
def ask_here(monkeypatch):
    """Has this process answer for each node; gives the setter of what a node sees in place of the folder."""
    seen = {}

    def ask(nodes, question, *args):
        answers = []
        for node in nodes:
            context = SimpleNamespace(get_node_id=lambda node=node: node.node_id)
            monkeypatch.setattr(ray, "get_runtime_context", lambda context=context: context)
            there = [seen.get(node.node_id, args[0]), *args[1:]] if args else args
            answers.append((node, question(*there)))
        return answers

    monkeypatch.setattr(node_checks, "_ask", ask)
    monkeypatch.setattr(node_checks, "ARRIVES_WITHIN_S", 0.2)
    return seen


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / LOCK_FILE).write_text("the driver's own words")
    return tmp_path / "s"


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_all_nodes_share_is_left_as_it_was(folder, ask_here):
    check_folders([NODE, Node(cpus=1.0, node_id="f" * 16, address="10.0.0.3")], folder)
    assert left_in(folder) == [LOCK_FILE]


def test_a_node_without_the_folder_is_named_with_it(folder, ask_here, tmp_path):
    ask_here[NODE.node_id] = str(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*none .*--runs-dir"):
        check_folders([NODE], folder)


def test_a_folder_of_the_same_name_is_another_by_the_drivers_lock(folder, ask_here, tmp_path):
    ask_here[NODE.node_id] = str(tmp_path)
    (tmp_path / LOCK_FILE).write_text("another driver's")
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*another .*--runs-dir"):
        check_folders([NODE], folder)
    assert left_in(folder) == [LOCK_FILE]


def test_a_copy_of_the_folder_is_found_out_by_what_the_node_writes(folder, ask_here, tmp_path):
    ask_here[NODE.node_id] = str(tmp_path)
    (tmp_path / LOCK_FILE).write_text((folder / LOCK_FILE).read_text())
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*writes to another"):
        check_folders([NODE], folder)


def test_a_folder_that_a_node_cannot_write_to_names_the_user(folder, ask_here):
    (folder / MARK).mkdir()  # root may write anywhere else
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*cannot write .* as user "):
        check_folders([NODE], folder)


def test_the_first_image_that_a_node_cannot_read_is_named(ask_here, tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*/2\.png.*--data-dir"):
        check_images([NODE], [tmp_path / "1.png", tmp_path / "2.png"])
    check_images([NODE], [tmp_path / "1.png"])
    check_images([NODE], [])


@pytest.fixture
def in_bucket(tmp_path, monkeypatch):
    """A study's claim in a bucket of this process's memory."""
    with claimed(open_bucket(f"memory://{tmp_path.name}/runs"), "s/driver") as claim:
        yield claim


def test_a_bucket_that_all_nodes_use_is_left_as_it_was(in_bucket, ask_here):
    check_bucket([NODE], in_bucket.bucket, in_bucket)
    assert list(in_bucket.bucket.versions("")) == [in_bucket.key]


def test_a_node_with_another_endpoint_is_told_from_the_driver_by_its_claim(in_bucket, ask_here):
    ask_here[NODE.node_id] = "memory://elsewhere/runs"
    with pytest.raises(
        ConfigError, match=r"node 10\.0\.0\.2 .*sees another bucket at memory://elsewhere/runs"
    ):
        check_bucket([NODE], in_bucket.bucket, in_bucket)


def test_what_a_node_lacks_for_a_bucket_is_one_line(in_bucket, ask_here, server, monkeypatch):
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    ask_here[NODE.node_id] = "s3://nobody-has-this/runs"
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 .*cannot use the bucket: .*there is no bucket"):
        check_bucket([NODE], in_bucket.bucket, in_bucket)


def test_a_file_that_shows_late_is_waited_for(tmp_path, monkeypatch):
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            (tmp_path / "late").touch()

    monkeypatch.setattr("time.sleep", sleep)
    assert node_checks._arrives(tmp_path / "late") and len(waits) == 3


def test_software_for_another_device_is_the_same_version(ask_here, monkeypatch):
    builds = iter(["2.11.0+cpu", "0.26.0+cpu", "2.11.0+cu130", "0.26.0"])
    monkeypatch.setattr(node_checks, "version", lambda name: next(builds))
    monkeypatch.setattr(node_checks, "_versions_there", lambda: ("worker", node_checks._versions()))
    check_versions([NODE])
    assert list(builds) == []


def test_another_version_is_named_with_both_and_the_node(ask_here, monkeypatch):
    here, there = ({"torch": name, "torchvision": "0.26.0"} for name in ("2.11.0", "2.0.1"))
    monkeypatch.setattr(node_checks, "_versions", lambda: here)
    monkeypatch.setattr(node_checks, "_versions_there", lambda: ("worker", there))
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.2 \(worker\) .*torch 2\.0\.1.*2\.11\.0"):
        check_versions([NODE])
