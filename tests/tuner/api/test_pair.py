import shlex

from tinytl.__main__ import build_parser
from tinytl.config.flags import given_fields
from tinytl.config.flat import config_from_flat
from tuner.api.pair import pair_of
from tuner.findings.best import choose_best


def test_it_is_what_the_command_best_prints(many):
    best = choose_best(many.reading, 60.0)
    pair, printed = pair_of(best), best.to_json()
    assert pair.peak_memory_mib <= 60
    for name in ("trial", "accuracy_top1", "peak_memory_mib", "command"):
        assert getattr(pair, name) == printed[name]
    assert repr(pair).startswith(f"{pair.trial}: accuracy {pair.accuracy_top1:.3f} in ")


def test_its_command_trains_its_configuration(many):
    pair = pair_of(choose_best(many.reading, None))
    args = build_parser().parse_args(shlex.split(pair.command)[3:])
    assert config_from_flat(given_fields(args)) == pair.config
