"""Nothing in a file from elsewhere is run; what is harmless is kept as text or number."""

from __future__ import annotations

import datetime
import enum
import io
import pathlib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.foreign import import_sae
from support.commands import assert_user_error, cytosae, exit_code
from support.foreign_files import release_file, saev_file, saev_header
from support.foreign_weights import arrays, same_bytes
from support.pickles import hostile


@pytest.mark.parametrize("which", list(hostile(Path("x"))))
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", ["field", "key"])
def test_a_file_that_calls_something_is_refused_and_nothing_runs(
    tmp_path: Path, elsewhere: Any, which: str, new: bool, place: str
) -> None:
    mark = tmp_path / "was-run"
    danger, name = hostile(mark)[which]
    kind = elsewhere("src.sae_training.config.ViTSAERunnerConfig")
    config = kind()
    config.hook = danger if place == "field" else None
    content: dict[Any, Any] = {"cfg": config, "state_dict": arrays()}
    if place == "key":
        content["zz"] = {(danger,): 1}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    elsewhere.forget()
    with pytest.raises(CytosaeError, match="Nothing in it was run") as caught:
        import_sae(tmp_path / "a.pt")
    if new:  # in the old format the first name that is not known is told, which may be that of the configuration
        assert name in str(caught.value)
    assert not mark.exists()
    assert exit_code(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "sae")]) == 2
    assert not (tmp_path / "sae").exists()
    assert not mark.exists()


class _Kind(enum.Enum):
    RESIDUAL = "resid"


class _Levels(enum.IntFlag):
    LOW = 1
    HIGH = 2


@dataclass
class _Inner:
    rate: float = 0.5
    kind: _Kind = _Kind.RESIDUAL


class _Pair(NamedTuple):
    low: int
    high: int


def harmless() -> dict[str, tuple[Any, Any]]:
    """Values that pickle as calls or objects, and what is kept of them."""
    return {
        "path": (pathlib.PurePosixPath("/data/run 1"), "/data/run 1"),
        "local path": (Path("out"), "out"),
        "path of Windows": (pathlib.PureWindowsPath("C:/data/run"), "C:\\data\\run"),
        "float": (np.float32(0.5), 0.5),
        "integer": (np.int64(7), 7),
        "boolean": (np.bool_(True), True),
        "array": (np.arange(6.0).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        "array by columns": (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        "no array": (np.zeros(0), []),
        "objects": (np.array([1, "a"], dtype=object), "array of numpy"),
        "many": (np.zeros((300, 40)), "array (300, 40)"),
        "type": (np.dtype("float32"), "f4"),
        "enum": (_Kind.RESIDUAL, "resid"),
        "flags": (_Levels.LOW | _Levels.HIGH, 3),
        "dataclass": (_Inner(), {"rate": 0.5, "kind": "resid"}),
        "named tuple": (_Pair(1, 2), "_Pair(1, 2)"),
        "namespace": (types.SimpleNamespace(a=1), {"a": 1}),
        "date": (datetime.datetime(2024, 5, 1, 12, 30), "2024-05-01 12:30:00"),
        "set": (frozenset([1]), "frozenset([1])"),
        "function": (torch.nn.functional.relu, "torch.nn.functional.relu"),
    }


@pytest.mark.parametrize("which", list(harmless()))
def test_a_harmless_value_is_kept_as_text_or_number(tmp_path: Path, elsewhere: Any, which: str) -> None:
    value, kept = harmless()[which]
    kind = elsewhere("src.sae_training.config.ViTSAERunnerConfig")
    config = kind()
    config.run_name = value
    torch.save({"cfg": config, "state_dict": arrays()}, tmp_path / "a.pt")
    elsewhere.forget()
    sae = import_sae(tmp_path / "a.pt")
    assert sae.metadata["imported"]["configuration"]["run_name"] == kept
    assert sae.metadata["imported"]["ignored"] == []
    sae.save_pretrained(tmp_path / "sae")
    same_bytes(SAE.from_pretrained(tmp_path / "sae"), arrays())


def test_a_configuration_that_holds_itself_many_times_ends(tmp_path: Path, elsewhere: Any) -> None:
    kind = elsewhere("src.sae_training.config.Config")
    config = kind()
    config.__dict__.update({f"loop{i}": config for i in range(30)})
    torch.save({"cfg": config, "state_dict": arrays()}, tmp_path / "a.pt")
    elsewhere.forget()
    import_sae(tmp_path / "a.pt").save_pretrained(tmp_path / "sae")
    assert (tmp_path / "sae" / "config.json").stat().st_size < 10_000_000


def test_the_hostile_files_do_run_where_they_are_let(tmp_path: Path) -> None:
    """The danger is real: without the restriction the mark appears."""
    mark = tmp_path / "was-run"
    content = io.BytesIO()
    torch.save(hostile(mark)["os.system"][0], content)
    torch.load(io.BytesIO(content.getvalue()), weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_told(tmp_path: Path, elsewhere: Any, share: float) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CytosaeError, match=r"a\.pt: (damaged, cut off|refused, since it is not)"):
        import_sae(path)


def test_the_command_tells_of_a_truncated_file_in_one_line(tmp_path: Path, elsewhere: Any) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere)
    path.write_bytes(path.read_bytes()[:-100])
    assert_user_error(cytosae("import", path, "-o", tmp_path / "sae", check=False), "a.pt", "cut off", "download")
    assert not (tmp_path / "sae").exists()


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x1f\x8b\x08 compressed")
    (tmp_path / "b.pt").write_text("<html>404</html>")
    torch.jit.script(nn.ReLU()).save(tmp_path / "c.pt")
    for name in "abc":
        with pytest.raises(CytosaeError, match=rf"{name}\.pt"):
            import_sae(tmp_path / f"{name}.pt")
    with pytest.raises(CytosaeError, match="no such file"):
        import_sae(tmp_path / "d.pt")


def test_a_damaged_name_in_a_pickle_is_told(tmp_path: Path) -> None:
    path = saev_file(tmp_path / "sae.pt", saev_header(2))
    path.write_bytes(path.read_bytes().replace(b"FloatStorage", b"FloatStorafe"))
    with pytest.raises(CytosaeError, match=r"sae\.pt"):
        import_sae(path)
