import pytest

from tinytl.config.one_line_parser import OneLineParser


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="prog")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train")
    train.add_argument("name", metavar="NAME")
    train.add_argument("--trials", type=int, metavar="TRIALS")
    train.add_argument("--budget-mib", type=float, metavar="MIB")
    train.add_argument("--rate", type=float, metavar="RATE")
    train.add_argument("--port", type=int, metavar="PORT")
    train.add_argument("--split", choices=("train", "val", "test"))
    train.add_argument("-v", "--verbose", action="store_true")
    which = train.add_mutually_exclusive_group()
    which.add_argument("--one", metavar="ONE")
    which.add_argument("--other", metavar="OTHER")
    commands.add_parser("memory")
    return parser


MISTAKES = [
    ("train x --trails 3", "prog train: unknown flag --trails: did you mean --trials?"),
    ("train x --trails=3", "prog train: unknown flag --trails: did you mean --trials?"),
    ("train x --trial 3", "prog train: unknown flag --trial: did you mean --trials?"),
    ("train x --xyzzy", "prog train: unknown flag --xyzzy"),
    ("--trials 3 train x", "prog: unknown command '3': known: train, memory"),
    ("tran x", "prog: unknown command 'tran': did you mean 'train'? known: train, memory"),
    ("", "prog: COMMAND is missing"),
    ("train", "prog train: NAME is missing"),
    ("train x y", "prog train: 'y' is one word too many"),
    ("train x --trials many", "prog train: --trials many: a whole number is needed"),
    ("train x --trials 2.5", "prog train: --trials 2.5: a whole number is needed"),
    ("train x --trials", "prog train: --trials has no value: a whole number is needed"),
    ("train x --rate fast", "prog train: --rate fast: a number is needed"),
    ("train x --budget-mib abc", "prog train: --budget-mib abc: a number of MiB is needed, such as 60"),
    ("train x --port http", "prog train: --port http: a port is needed, a number from 1 to 65535"),
    (
        "train x --split tset",
        "prog train: unknown --split 'tset': did you mean 'test'? known: train, val, test",
    ),
    ("train x --split", "prog train: --split has no value: one of train, val, test is needed"),
    ("train x --one", "prog train: --one has no value: give ONE"),
    (
        "train x --verbose=3",
        "prog train: --verbose is given the value '3': it is a switch, leave the value out",
    ),
    ("train x --one 1 --other 2", "prog train: --other and --one exclude each other: give one"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line_in_words_about_the_flag(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _parser().parse_args(words.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"{message} (--help lists the flags)\n"


def test_what_is_right_is_parsed() -> None:
    args = _parser().parse_args("train x --trials 3 --budget-mib 60 --split val -v".split())
    assert (args.name, args.trials, args.budget_mib, args.split, args.verbose) == ("x", 3, 60.0, "val", True)


def _old(words: str, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    parser = OneLineParser(prog="prog")
    parser.add_argument("--out", required=True)
    for flag in flags:
        parser.add_argument(flag)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(words.split())
    assert caught.value.code == 2
    return capsys.readouterr().err.removesuffix(" (--help lists the flags)\n").removeprefix("prog: ")


@pytest.mark.parametrize(
    ("words", "today"),
    [
        ("--arch mobilenet_v2", "--backbone"),
        ("--lr=0.1", "--base-lr"),
        ("--wd 1e-4", "--weight-decay"),
        ("--proxy", "--backbone proxylessnas_mobile"),
        ("-type CIFAR10", "--dataset"),
        ("--gpu 0", "CUDA_VISIBLE_DEVICES=N before the command"),
        ("--rank 1", "torchrun --nproc-per-node N -m tinytl train"),
    ],
)
def test_a_flag_of_the_reports_script_names_today_s(
    words: str, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--backbone", "--base-lr", "--weight-decay", "--dataset", "--device"
    flag = words.replace("=", " ").split()[0]
    assert _old(words, capsys, *flags) == f"unknown flag {flag}: today it is {today}"


def test_a_search_sets_what_was_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--backbone", "--set"
    assert _old("--lr 0.1", capsys, *flags) == "unknown flag --lr: today it is --set base_lr=VALUE"
    assert _old("--arch x", capsys, *flags) == "unknown flag --arch: today it is --backbone"


def test_other_commands_do_not_speak_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert "today" not in _old("--out x --gpu 0", capsys)


def test_a_flag_that_is_known_is_not_an_old_one() -> None:
    parser = OneLineParser(prog="prog")
    parser.add_argument("--backbone")
    parser.add_argument("--workers")
    assert parser.parse_args("--workers 2".split()).workers == "2"
