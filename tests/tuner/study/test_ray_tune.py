"""What Ray Tune's callback hands on. Trials on a cluster: tests/integration/test_study.py."""

import pickle
from types import SimpleNamespace

from tuner.study.ray_tune import _Epochs, _trial_name


class Told:
    """Follows a study, and keeps what it was told."""

    def __init__(self):
        self.epochs = []

    def epoch_ended(self, name, row):
        self.epochs.append((name, row))


class Method:
    """A method of an actor: it has options, one of which is the name that Ray's dashboard shows."""

    def __init__(self, name="train"):
        self.name = name

    def options(self, name):
        return Method(name)


class Actor:
    """An actor whose `train` is its class's until an attribute hides it."""

    @property
    def _of_its_class(self):
        return Method()

    def __getattr__(self, name):
        assert name == "train"
        return self._of_its_class


def trial(name, actor=None):
    return SimpleNamespace(config={"name": name}, temporary_state=SimpleNamespace(ray_actor=actor))


def test_each_epoch_is_told_to_all_who_follow_and_an_end_without_an_epoch_is_not():
    followers = [Told(), Told()]
    epochs = _Epochs(followers)
    epochs.on_trial_result(1, [], trial("joint-000"), {"row": {"epoch": 1}})
    epochs.on_trial_result(2, [], trial("joint-000"), {"failure": "the loss is nan"})
    assert [told.epochs for told in followers] == [[("joint-000", {"epoch": 1})]] * 2


def test_a_process_that_goes_on_with_another_trial_has_that_trials_name():
    actor = Actor()
    for name in ("joint-000", "joint-001"):
        _Epochs([]).on_trial_start(1, [], trial(name, actor))
        assert actor.train.name == name


def test_what_ray_saves_of_it_holds_nobody_who_follows():
    assert pickle.loads(pickle.dumps(_Epochs([Told()]))).__dict__.get("observers") is None


def test_ray_calls_a_trial_and_its_folder_as_the_study_does():
    assert _trial_name(trial("joint-007")) == "joint-007"
