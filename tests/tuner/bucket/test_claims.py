import json
import pickle
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.places import ROOT
from tuner.bucket import claims
from tuner.bucket.claims import Claim, ClaimLostError, TakenError, claimed, holder_of, is_claim, is_here
from tuner.bucket.store import Bucket


def of_another_machine(bucket: Bucket, number: int = 1, **more: object) -> None:
    """Writes a claim as a process elsewhere does."""
    holder = {"host": "elsewhere", "pid": 7, "began": 1, "machine": "its", "token": "its"} | more
    bucket.write(f"s/driver.claim/{number:06d}", json.dumps(holder).encode())


class Later(Bucket):
    """A bucket whose clock is ahead of what was written there."""

    def now(self, under: str) -> datetime:
        return super().now(under) + timedelta(seconds=claims.GONE_AFTER_S)


def test_a_second_process_is_refused_until_the_first_releases(bucket):
    with claimed(bucket, "s/driver"):
        holder = holder_of(bucket, "s/driver")
        assert holder["pid"] > 0 and is_here(holder)
        with pytest.raises(TakenError, match=f"process {holder['pid']} on "), claimed(bucket, "s/driver"):
            pass
    assert holder_of(bucket, "s/driver") is None
    with claimed(bucket, "s/driver") as again:
        assert again.number == 2
        assert list(bucket.versions("s")) == [again.key], "the objects of claims do not add up"
        assert is_claim(again.key) and not is_claim("s/driver")


def test_one_that_waits_gets_the_name_when_it_is_released(bucket):
    with claimed(bucket, "s/driver") as first:
        with pytest.raises(TakenError), claimed(bucket, "s/driver", wait_s=1.5):
            pass
        first.release()
        with claimed(bucket, "s/driver", wait_s=30.0) as second:
            assert second.number == first.number + 1


def test_a_process_of_this_machine_that_was_killed_is_gone_at_once(bucket):
    look = "import json; from tuner.bucket.claims import _me; print(json.dumps(_me()))"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    of_another_machine(bucket, **json.loads(done.stdout))
    assert holder_of(bucket, "s/driver") is None
    with claimed(bucket, "s/driver") as claim:
        assert claim.number == 2


def test_a_process_elsewhere_is_gone_after_a_silence_by_the_buckets_clock(bucket):
    of_another_machine(bucket)
    assert holder_of(bucket, "s/driver") == {"host": "elsewhere", "pid": 7, "machine": "its"}
    with pytest.raises(TakenError, match="process 7 on elsewhere"), claimed(bucket, "s/driver"):
        pass
    later = Later(address=bucket.address, files=bucket.files, root=bucket.root)
    with claimed(later, "s/driver") as claim:
        assert claim.number == 2


def test_a_process_that_was_taken_for_gone_stops_writing(bucket):
    with claimed(bucket, "s/driver") as claim:
        claim.check()
        of_another_machine(bucket, 2)
        with pytest.raises(ClaimLostError, match="another process has taken over"):
            claim.renew()
        with pytest.raises(ClaimLostError):
            claim.check()
    assert holder_of(bucket, "s/driver")["host"] == "elsewhere", "it does not release what it lost"


def test_a_silent_process_asks_before_it_writes(bucket, monkeypatch):
    with claimed(bucket, "s/driver") as claim:
        of_another_machine(bucket, 2)
        claim.check()  # it has just shown that it lives
        monkeypatch.setattr(claims, "_clock_s", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 26)
        with pytest.raises(ClaimLostError):
            claim.check()


def test_a_holder_shows_that_it_lives(bucket, monkeypatch):
    monkeypatch.setattr(claims, "SIGN_OF_LIFE_S", 0.05)
    with claimed(bucket, "s/driver") as claim:
        first = bucket.versions("s")[claim.key]
        deadline = time.monotonic() + 10
        while bucket.versions("s")[claim.key] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_number_that_others_have_used_and_removed_is_not_taken_again(bucket):
    class Overtaken(Bucket):
        """Others take, release and take the name between a look and the attempt."""

        def create(self, key: str, content: bytes) -> bool:
            if key.endswith("000001"):
                of_another_machine(self, 2, released=True)
            return super().create(key, content)

    with claimed(
        Overtaken(address=bucket.address, files=bucket.files, root=bucket.root), "s/driver"
    ) as claim:
        assert claim.number == 3


def test_a_claim_that_is_withdrawn_leaves_nothing(bucket):
    with claimed(bucket, "s/driver") as claim:
        claim.withdraw()
        assert bucket.versions("s") == {}
    assert bucket.versions("s") == {}
    assert isinstance(claim, Claim)


def test_the_silence_that_a_holder_may_have_is_shorter_than_the_one_that_others_wait():
    assert claims.SIGN_OF_LIFE_S + claims.STOPS_BEFORE_S < claims.GONE_AFTER_S
    assert datetime.now(UTC).tzinfo is not None


def test_the_error_of_a_taken_name_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TakenError({"pid": 3, "host": "a"})))
    assert (str(error), error.holder["pid"]) == ("process 3 on a", 3)
