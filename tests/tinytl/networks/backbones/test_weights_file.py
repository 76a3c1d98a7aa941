import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.file_server import cut, serve, whole
from tinytl.errors import ConfigError
from tinytl.networks.backbones.weights_file import read_file, without_prefix

STATE: dict[str, Tensor] = {"features.0.weight": torch.arange(6.0).reshape(2, 3)}


class _RunsCode:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("executed",)


def _bytes(content: object, folder: Path) -> bytes:
    torch.save(content, folder / "made.pt")
    made = (folder / "made.pt").read_bytes()
    (folder / "made.pt").unlink()
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3}, {"net": STATE, "optimizer": {}}, {"model": STATE}],
    ids=["plain", "state_dict", "net", "model"],
)
def test_a_file_is_read_and_unwrapped(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    for source in (str(path), path.as_uri()):
        file = read_file("--weights", source)
        assert file.source == source
        assert (file.input_mean, file.input_std) == (None, None)
        assert file.state_dict.keys() == STATE.keys()
        assert torch.equal(file.state_dict["features.0.weight"], STATE["features.0.weight"])


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone.", "net.encoder."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share_is_dropped_and_said(tmp_path: Path, prefix: str) -> None:
    torch.save({f"{prefix}{name}": value for name, value in STATE.items()}, tmp_path / "w.pt")
    file = read_file("--weights", str(tmp_path / "w.pt"))
    assert list(file.state_dict) == list(STATE)
    assert file.named == f"{tmp_path / 'w.pt'} (names without {prefix})"


def test_names_that_are_not_all_wrapped_stay() -> None:
    for names in (["module.a", "b"], ["features.0.weight", "features.1.weight"], ["weight"], []):
        state = {name: torch.ones(1) for name in names}
        assert without_prefix(state) == ("", state)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"model_state_dict": STATE, "optimizer": {"state": {}}}, "its model_state_dict"),
        ({"model_ema": {"n_averaged": torch.ones(1), "module.features.0.weight": torch.ones(1)}, "model": {}},
         "its model_ema, names without module."),
        ({"model": {"state_dict": STATE}}, "its model.state_dict"),
        ({"state_dict": {f"model.{name}": value for name, value in STATE.items()}, "callbacks": {}},
         "names without model."),
    ],
)  # fmt: skip
def test_usual_wrappers_are_taken_off(tmp_path: Path, content: object, note: str) -> None:
    torch.save(content, tmp_path / "w.ckpt")
    file = read_file("--weights", str(tmp_path / "w.ckpt"))
    assert list(file.state_dict) == list(STATE) and file.note == note


def test_nan_is_refused_by_the_tensors_name(tmp_path: Path) -> None:
    torch.save({**STATE, "features.1.bias": torch.tensor([1.0, torch.nan])}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"w\.pt: features\.1\.bias holds NaN or infinity"):
        read_file("--weights", str(tmp_path / "w.pt"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({f"model.{name}": value for name, value in STATE.items()}, path)
    file = read_file("--weights", str(path))
    assert torch.equal(file.state_dict["features.0.weight"], STATE["features.0.weight"])
    assert file.note == "names without model."
    for content in (b"", path.read_bytes()[:-3], b"no safetensors at all"):
        path.write_bytes(content)
        with pytest.raises(
            ConfigError, match=r"^--weights .*: not a file of safetensors, or damaged \("
        ) as caught:
            read_file("--weights", str(path))
        assert "\n" not in str(caught.value)


def test_arrays_of_numpy_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with pytest.raises(ConfigError, match=r"arrays.npz: it is numpy's npz; save the state dict alone$"):
        read_file("--weights", str(tmp_path / "arrays.npz"))


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"features.0.weight": torch.arange(1000.0)}, path)
    whole = path.read_bytes()
    place = whole.index(torch.arange(1000.0).numpy().tobytes()[:64]) + 1777
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(
        ConfigError, match=r"^--weights .*w\.pt: the file is damaged: .* is not what was written$"
    ):
        read_file("--weights", str(path))


@pytest.mark.parametrize(
    "mean", [(0.5, 0.25, 0.75), [0.5, 0.25, 0.75], torch.tensor([[[0.5]], [[0.25]], [[0.75]]])]
)
def test_a_file_carries_its_input(tmp_path: Path, mean: object) -> None:
    torch.save({"state_dict": STATE, "input_mean": mean, "input_std": [1, 2, 3]}, tmp_path / "w.pt")
    file = read_file("--weights", str(tmp_path / "w.pt"))
    assert file.input_mean == (0.5, 0.25, 0.75)
    assert file.input_std == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"input_mean": [0.5] * 3}, "holds one of input_mean and input_std without the other"),
        ({"input_mean": 0.5, "input_std": [1.0] * 3}, "its input_mean is not three numbers"),
        ({"input_mean": [0.5] * 3, "input_std": [1.0, 1.0]}, "its input_std is not three numbers"),
        ({"input_mean": [float("nan")] * 3, "input_std": [1.0] * 3}, "its input_mean is not three numbers"),
        ({"input_mean": [0.5] * 3, "input_std": [1.0, 0.0, 1.0]}, "its input_std is not above 0"),
    ],
)
def test_an_input_that_makes_no_sense(tmp_path: Path, entries: dict[str, object], message: str) -> None:
    torch.save({"state_dict": STATE, **entries}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=f"^--weights .*w.pt: .*{message}$"):
        read_file("--weights", str(tmp_path / "w.pt"))


def test_missing_file(tmp_path: Path) -> None:
    for source in (str(tmp_path / "nowhere.pt"), (tmp_path / "nowhere.pt").as_uri(), str(tmp_path)):
        with pytest.raises(ConfigError, match=r": no such file \(nor one of the names imagenet, none\)$"):
            read_file("--weights", source)


@pytest.mark.parametrize(
    "content",
    [{"a": 1}, [torch.ones(1)], torch.ones(1), {3: torch.ones(1)}, {"state_dict": {"a": 1}}],
    ids=["dict", "list", "tensor", "numbers", "inside"],
)
def test_not_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"w.pt: not a state dict \(a dict from names to tensors\)$"):
        read_file("--weights", str(tmp_path / "w.pt"))


def _damaged(kind: str, path: Path) -> bytes:
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=kind != "old, cut")
    content = path.read_bytes()
    return {
        "empty": b"",
        "text": b"these are no weights " * 9,
        "head": content[:500],
        "almost whole": content[:-30],
        "old, cut": content[:60],
        "pickle": pickle.dumps({"a": 1}, protocol=2),
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "head", "almost whole", "old, cut", "pickle"])
def test_a_damaged_file_is_named_in_one_line_and_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pt"
    content = _damaged(kind, path)
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file("--lite-weights", str(path))
    assert str(caught.value).startswith(f"--lite-weights {path}: not a file of tensors that torch can load")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _RunsCode()}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError) as caught:
        read_file("--weights", "w.pt")
    assert str(caught.value) == (
        "--weights w.pt: not a file of tensors that torch can load: it asks to run posix.mkdir, "
        "which is refused; save the state dict alone"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_a_whole_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"it asks to run torch.nn.modules.linear.Linear, which is refused"):
        read_file("--weights", str(tmp_path / "w.pt"))


def test_a_torchscript_archive_is_refused_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"it is TorchScript; save the state dict alone$"):
        read_file("--weights", str(tmp_path / "w.pt"))


def test_a_url_is_downloaded_once(tmp_path: Path, cache: Path) -> None:
    with serve({"/a/w.pt?v=1": whole(_bytes({"state_dict": STATE}, tmp_path))}) as (url, asked):
        for _ in range(2):
            file = read_file("--weights", f"{url}/a/w.pt?v=1")
            assert torch.equal(file.state_dict["features.0.weight"], STATE["features.0.weight"])
    assert asked == ["/a/w.pt?v=1"]
    assert [path.name.partition("_")[2] for path in cache.iterdir()] == ["w.pt"]


def test_equal_names_at_different_urls_are_different_files(tmp_path: Path, cache: Path) -> None:
    answers = {f"/{i}/w.pt": whole(_bytes({"a": torch.full((1,), float(i))}, tmp_path)) for i in (1, 2)}
    with serve(answers) as (url, _):
        read = [read_file("--weights", f"{url}/{i}/w.pt").state_dict["a"].item() for i in (1, 2)]
    assert read == [1.0, 2.0]


def test_a_url_that_ends_early_leaves_nothing_and_comes_right_later(tmp_path: Path, cache: Path) -> None:
    content = _bytes(STATE, tmp_path)
    answers = {"/w.pt": cut(content, len(content) // 2)}
    with serve(answers) as (url, _):
        message = f"^--weights {url}/w.pt: could not be downloaded .connection broken: "
        with pytest.raises(ConfigError, match=message):
            read_file("--weights", f"{url}/w.pt")
        assert list(cache.iterdir()) == []
        answers["/w.pt"] = whole(content)
        assert read_file("--weights", f"{url}/w.pt").state_dict.keys() == STATE.keys()


@pytest.mark.parametrize("url", ["http://[", "file://[/w.pt"])
def test_a_url_that_is_none_is_one_line(cache: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_file("--weights", url)
    assert str(caught.value) == f"--weights {url}: Invalid IPv6 URL"


def test_the_checksum_of_a_url_is_verified_at_every_reading(tmp_path: Path, cache: Path) -> None:
    content = _bytes(STATE, tmp_path)
    name = f"w-{hashlib.sha256(content).hexdigest()[:8]}.pt"
    with serve({f"/{name}": whole(content), "/w-00000000.pt": whole(content)}) as (url, asked):
        with pytest.raises(ConfigError, match="not 00000000"):
            read_file("--weights", f"{url}/w-00000000.pt")
        read_file("--weights", f"{url}/{name}")
        (kept,) = cache.iterdir()
        middle = len(content) // 2
        damaged = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        kept.write_bytes(damaged)
        with pytest.raises(ConfigError, match=rf"^--weights {url}/{name}: {kept} is damaged"):
            read_file("--weights", f"{url}/{name}")
    assert asked == ["/w-00000000.pt", f"/{name}"]
    assert kept.read_bytes() == damaged


def test_the_checksum_of_a_file_url_is_verified(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w-00000000.pt")
    with pytest.raises(ConfigError, match="is damaged: its SHA-256"):
        read_file("--weights", (tmp_path / "w-00000000.pt").as_uri())
    assert read_file("--weights", str(tmp_path / "w-00000000.pt")).state_dict.keys() == STATE.keys()


def test_what_a_url_gives_may_be_no_weights(tmp_path: Path, cache: Path) -> None:
    with serve({"/w.pt": whole(b"<html>Sign in</html>")}) as (url, _):
        with pytest.raises(ConfigError) as caught:
            read_file("--weights", f"{url}/w.pt")
    (kept,) = cache.iterdir()
    assert str(caught.value).startswith(f"--weights {url}/w.pt: not a file of tensors that torch can load")
    assert str(caught.value).endswith(f"; it is kept in {kept}, delete it to download it again")
