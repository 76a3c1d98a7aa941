import logging

import pytest

from tuner import verbosity


@pytest.fixture(autouse=True)
def as_before():
    levels = {name: logging.getLogger(name).level for name in verbosity.LIBRARIES}
    yield
    verbosity.set_verbose(False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("verbose", [False, True])
def test_libraries_are_heard_where_that_is_wanted(verbose):
    verbosity.set_verbose(verbose)
    verbosity.apply_verbosity()
    assert verbosity.is_verbose() is verbose
    for name in verbosity.LIBRARIES:
        assert logging.getLogger(name).isEnabledFor(logging.INFO) is verbose
        assert logging.getLogger(name).isEnabledFor(logging.ERROR) is verbose
