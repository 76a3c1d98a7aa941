from tuner.cluster.waiting import PATIENCE_S, REPEAT_S, Waiting

NEEDS = {"CPU": 1.0}


class Cluster:
    """A clock, what keeps trials from their start, and what was told."""

    def __init__(self):
        self.now_s, self.taken, self.asked, self.told = 0.0, "no room", [], []
        self.waiting = Waiting(self.told.append, taken=self.what_is_taken, clock=lambda: self.now_s)

    def what_is_taken(self, cpus, gpus):
        self.asked.append((cpus, gpus))
        return self.taken

    def look(self, after_s, needs):
        self.now_s += after_s
        self.waiting.look(needs)


def test_a_wait_is_told_after_a_while_and_again_after_a_long_one():
    cluster = Cluster()
    cluster.look(0.0, {"CPU": 0.5, "GPU": 0.25})
    cluster.look(PATIENCE_S - 1, NEEDS)
    assert cluster.told == []
    cluster.look(1.0, {"CPU": 0.5, "GPU": 0.25})
    assert cluster.told == ["Waiting for the cluster: no room"] and cluster.asked == [(0.5, 0.25)]
    cluster.look(REPEAT_S - 1, NEEDS)
    assert len(cluster.told) == 1
    cluster.look(1.0, NEEDS)
    assert len(cluster.told) == 2


def test_a_trial_that_runs_between_begins_the_wait_anew():
    cluster = Cluster()
    for needs in (NEEDS, None, NEEDS):
        cluster.look(PATIENCE_S - 1, needs)
    assert cluster.told == []
    cluster.look(PATIENCE_S, NEEDS)
    assert len(cluster.told) == 1


def test_room_that_ray_has_not_given_yet_is_not_told():
    cluster = Cluster()
    cluster.taken = None
    cluster.look(0.0, NEEDS)
    cluster.look(PATIENCE_S, NEEDS)
    assert cluster.told == [] and cluster.asked
    cluster.taken = "no room"
    cluster.look(PATIENCE_S, NEEDS)
    assert len(cluster.told) == 1
