import os
import signal
import threading

import pytest

from tuner.stopping import INTERRUPTED, TIME_SPENT, Stopping, sigterm_as_ctrl_c


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_kept_and_the_next_raises(number):
    stopping, told = Stopping(), []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stopping.on_signals(lambda: told.append("stopping")):
        assert stopping.reason is None and not stopping.interrupted
        os.kill(os.getpid(), number)
        assert stopping.reason == INTERRUPTED and stopping.interrupted
        os.kill(os.getpid(), number)
    assert told == ["stopping"]
    assert signal.getsignal(number) is before


def test_a_study_in_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def run():
        with sigterm_as_ctrl_c(), Stopping().on_signals(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_time_that_is_spent_is_a_reason_but_no_interrupt():
    stopping = Stopping(time_budget_s=0.0)
    assert stopping.reason == TIME_SPENT and not stopping.interrupted
    assert Stopping(time_budget_s=1000.0).reason is None


def test_the_first_reason_stays_and_is_no_interrupt():
    stopping = Stopping()
    stopping.because("of a bug")
    stopping.because("of another")
    assert stopping.reason == "of a bug" and not stopping.interrupted


def test_sigterm_is_ctrl_c_for_as_long_as_that_is_wanted():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
