import pytest

from tuner.bucket.copies import READ, copy_at, remove_from_bucket
from tuner.bucket.whole_folders import bring_whole, is_sent, send_whole, unmark


def test_a_folder_in_a_bucket_is_whole_once_its_marker_is_there_and_is_the_same_everywhere(bucket):
    here, elsewhere = (copy_at(bucket.address, role).root / "s" / "model" for role in (READ, "elsewhere"))
    assert not bring_whole(elsewhere, "about")
    here.mkdir(parents=True)
    for name in ("about", "weights", "old"):
        (here / name).write_text(name)
    assert not is_sent(here / "about") and bring_whole(here, "about")  # it is whole here
    send_whole(here, "about")
    assert is_sent(here / "about") and bring_whole(elsewhere, "about")
    assert {file.name for file in elsewhere.iterdir()} == {"about", "weights", "old"}

    (here / "old").unlink()
    (here / "weights").write_text("others")
    send_whole(here, "about")
    assert sorted(bucket.versions("s/model")) == ["s/model/about", "s/model/weights"]
    (elsewhere / "stray").write_text("never sent")
    assert bring_whole(elsewhere, "about")
    assert {file.name: file.read_text() for file in elsewhere.iterdir()} == {
        "about": "about",
        "weights": "others",
    }


def test_what_changed_here_and_was_not_sent_is_sent_and_not_lost(bucket):
    here = copy_at(bucket.address, READ).root / "s" / "model"
    here.mkdir(parents=True)
    (here / "about").write_text("old")
    send_whole(here, "about")
    assert bring_whole(here, "about")
    unmark(here, "about")
    (here / "about").write_text("new")  # killed here
    assert not is_sent(here / "about") and bring_whole(here, "about")
    assert (here / "about").read_text() == "new"


def test_a_folder_that_was_sent_in_part_is_not_brought(bucket, monkeypatch):
    here, elsewhere = (copy_at(bucket.address, role).root / "s" / "model" for role in (READ, "elsewhere"))
    here.mkdir(parents=True)
    for name in ("about", "weights"):
        (here / name).write_text(name)
    send_whole(here, "about")
    with monkeypatch.context() as cut:

        def killed(*arguments):
            raise KeyboardInterrupt

        cut.setattr("tuner.bucket.store.Bucket.write", killed)
        with pytest.raises(KeyboardInterrupt):
            send_whole(here, "about")
    bucket.write("s/model/weights", b"half of them")
    assert not bring_whole(elsewhere, "about") and not elsewhere.exists()
    assert bring_whole(here, "about") and (here / "weights").read_text() == "weights"


def test_a_whole_folder_that_another_machine_removed_is_gone_and_not_sent_again(bucket):
    here, elsewhere = (copy_at(bucket.address, role).root / "s" / "model" for role in (READ, "elsewhere"))
    here.mkdir(parents=True)
    (here / "about").write_text("old")
    send_whole(here, "about")
    assert bring_whole(elsewhere, "about")
    for what in (here, elsewhere):  # the one that sent it, and the one that brought it
        remove_from_bucket(here, last="about")
        assert not bring_whole(what, "about") and not what.exists()
    elsewhere.mkdir()
    (elsewhere / "about").write_text("new")  # killed before it was sent
    assert not is_sent(elsewhere / "about") and bring_whole(elsewhere, "about")
    send_whole(elsewhere, "about")
    assert bring_whole(here, "about") and (here / "about").read_text() == "new"
    unmark(elsewhere, "about")  # killed before it wrote another
    assert not bring_whole(here, "about") and not here.exists()
    assert bring_whole(elsewhere, "about") and (elsewhere / "about").read_text() == "new"
