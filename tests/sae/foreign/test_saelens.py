"""Autoencoders from and for other programs: each format as its program writes it, each equation computed once more here."""

from __future__ import annotations

import ctypes
import datetime
import enum
import functools
import importlib
import io
import json
import multiprocessing
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cytosae.artefacts import FileRecord, Manifest, write_json
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.card import Evidence, card, evidence_of
from cytosae.sae.foreign import import_sae, write_saelens
from support.commands import assert_user_error, cytosae, exit_code
from support.foreign_files import (
    V3,
    V6,
    dictionary_file,
    linear_state,
    overcomplete_module,
    overcomplete_state,
    release_file,
    saelens_folder,
    saev_file,
    saev_header,
)
from support.foreign_weights import (
    D,
    S,
    activation_by_hand,
    agrees,
    arrays,
    by_hand,
    gate,
    made_by,
    same_bytes,
    thresholds,
    tokens,
)
from support.pickles import Calls


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., type]]:
    """Classes of modules that are not here once the file is written."""
    made: list[str] = []

    def make(full_name: str, base: type = object, **members: Any) -> type:
        module, _, name = full_name.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            if part not in sys.modules:
                sys.modules[part] = types.ModuleType(part)
                made.append(part)
        kind = type(name, (base,), {**members, "__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, kind)
        return kind

    make.forget = lambda: [sys.modules.pop(name, None) for name in made]  # type: ignore[attr-defined]
    yield make
    make.forget()  # type: ignore[attr-defined]


# The release


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_release_is_read_as_it_computes(tmp_path: Path, elsewhere: Any, key: str) -> None:
    path = release_file(tmp_path / "final_sparse_autoencoder_dinov2_vitb14_-2_resid_49152.pt", elsewhere, key)
    sae = import_sae(path)
    assert "src.sae_training" not in sys.modules
    agrees(sae, by_hand(**arrays()))
    same_bytes(sae, arrays())
    sae.save_pretrained(tmp_path / "sae")
    loaded = SAE.from_pretrained(tmp_path / "sae")
    same_bytes(loaded, arrays())
    about = loaded.metadata["imported"]
    assert about["format"] == "release"
    assert about["changes"] == []
    assert about["configuration"] == {
        "class": "src.sae_training.config.ViTSAERunnerConfig",
        "model_name": "dinov2_vitb14",
        "block_layer": -2,
        "d_in": D,
        "expansion_factor": 64,
        "b_dec_init_method": "geometric_median",
        "gated_sae": None,
        "l1_coefficient": 8e-5,
        "lr": 4e-4,
        "class_token": True,
        "dtype": "float32",
        "device": "cuda",
        "store_batch_size": [32],
    }


def test_nested_settings_of_patchsae_are_kept(tmp_path: Path, elsewhere: Any) -> None:
    kind = elsewhere("src.sae_training.config.Config")
    config, inner = kind(), kind()
    inner.lr = 1e-3
    config.__dict__.update({"optimiser": inner, "loop": config, "bad\ud800": float("nan"), "loss": torch.tensor(2.0)})
    torch.save({"cfg": config, "state_dict": arrays()}, tmp_path / "a.pt")
    elsewhere.forget()
    sae = import_sae(tmp_path / "a.pt")
    settings = sae.metadata["imported"]["configuration"]
    assert settings["optimiser"] == {"lr": 1e-3}
    assert settings["loss"] == 2.0
    sae.save_pretrained(
        tmp_path / "sae"
    )  # a configuration that contains itself, and what JSON has not, still are written
    SAE.from_pretrained(tmp_path / "sae")


def test_gated_release_is_refused(tmp_path: Path, elsewhere: Any) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere, gated_sae=True)
    with pytest.raises(CytosaeError, match="gated"):
        import_sae(path)


class _Prisma:
    """Settings of vit_prisma as they are saved; its default is a layer norm before the encoder."""

    settings: ClassVar[dict[str, Any]] = {
        "architecture": "standard",
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "normalize_activations": "none",
        "cls_token_only": False,
        "hook_point": "blocks.9.hook_resid_post",
        "use_ghost_grads": True,
        "is_transcoder": False,
        "dead_feature_threshold": 1e-8,
    }


def prisma_file(path: Path, elsewhere: Any, state: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
    config = elsewhere("vit_prisma.sae.config.VisionModelSAERunnerConfig")()
    config.__dict__.update({**_Prisma.settings, **settings})
    torch.save({"cfg": config, "state_dict": state or arrays()}, path)
    elsewhere.forget()
    return path


def test_activations_of_vit_prisma_are_honoured(tmp_path: Path, elsewhere: Any) -> None:
    relu = import_sae(prisma_file(tmp_path / "a.pt", elsewhere, activation_fn_kwargs={"k": 4}))
    agrees(relu, by_hand(**arrays()))
    assert relu.metadata["imported"]["ignored"] == ["activation_fn_kwargs: {'k': 4}"]
    kept = import_sae(
        prisma_file(tmp_path / "b.pt", elsewhere, activation_fn_str="topk", activation_fn_kwargs={"k": np.int64(4)})
    )
    assert kept.activation.described() == {"kind": "topk", "k": 4}
    agrees(kept, activation_by_hand("topk"))
    state = {**arrays(), **gate()}
    gated = import_sae(prisma_file(tmp_path / "c.pt", elsewhere, state, architecture="gated"))
    agrees(gated, activation_by_hand("gated"))
    kept.save_pretrained(tmp_path / "sae")
    agrees(SAE.from_pretrained(tmp_path / "sae"), activation_by_hand("topk"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, "constant_norm_rescale"),
        ({"normalize_activations": "expected_average_only_in"}, "expected_average_only_in"),
        ({"normalize_activations": "zscore"}, "zscore"),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ({"activation_fn_str": "leaky_relu"}, "leaky_relu"),
        ({"activation_fn_str": torch.nn.functional.gelu}, "gelu"),
        ({"activation_fn_str": "topk"}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 0}}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "k": 5}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": S + 1}}, f"keeps {S + 1} of {S}"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4, "postact_fn": "identity"}}, "postact_fn"),
        ({"activation_fn_str": "relu", "activation_fn": "gelu"}, "cannot all be"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"architecture": "transformer"}, "transformer"),
        ({"is_transcoder": True}, "is_transcoder"),
        ({"use_error_term": True}, "use_error_term"),
        ({"reshape_activations": "hook_z"}, "hook_z"),
        ({"topk_sae": True, "topk_k": 32}, "topk_sae"),
        ({"jumprelu_sae": True}, "jumprelu_sae"),
        ({"k": 4}, "k 4"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
        ({"input_norm_factor": 3.2}, "input_norm_factor"),
        ({"encoder": {"pre_bias": True}}, r"encoder\.pre_bias"),
        ({"output_scale": 2.0}, "output_scale"),
        ({"act_fn": "gelu"}, "act_fn"),
    ],
)
def test_settings_that_change_the_mathematics_are_refused_by_name(
    tmp_path: Path, elsewhere: Any, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(CytosaeError, match=said):
        import_sae(prisma_file(tmp_path / "a.pt", elsewhere, **settings))


def test_settings_that_are_not_understood_are_listed(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    path = prisma_file(tmp_path / "a.pt", elsewhere, mascot="owl", input_norm_factor=None, notes={"who": "me"})
    assert exit_code(["import", str(path), "-o", str(tmp_path / "sae"), "--json"]) == 0
    ignored = ["mascot: owl", "input_norm_factor: None", "notes: {'who': 'me'}"]
    assert json.loads(capsys.readouterr().out)["ignored"] == ignored
    made = SAE.from_pretrained(tmp_path / "sae")
    assert made.metadata["imported"]["ignored"] == ignored
    assert "mascot: owl" in card(made, "owner/name", "mit")


def hostile(mark: Path) -> dict[str, tuple[Any, str]]:
    """Objects that do something when they are unpickled, and the name that the message has to tell."""
    touch = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": (Calls(os.system, f"touch {mark}"), "posix.system"),
        "eval": (Calls(eval, touch), "eval"),
        "exec": (Calls(exec, touch), "exec"),
        "Popen": (Calls(subprocess.Popen, ["touch", str(mark)]), "commands.Popen"),  # its name in pickle protocol 2
        "Path.touch": (Calls(pathlib.Path.touch, mark), "getattr"),
        "hub": (Calls(torch.hub.load, str(mark.parent), "touch", "local"), "torch.hub.load"),
        "nested": (Calls(torch.load, str(mark)), "torch.serialization.load"),
        "storage": (Calls(torch.storage._load_from_bytes, b"x"), "torch.storage._load_from_bytes"),
        "no argument": (Calls(os.getpid), "posix.getpid"),
        "import": (Calls(__import__, "this"), "__import__"),
        "rmtree": (Calls(shutil.rmtree, str(mark.parent)), "shutil.rmtree"),
        "module": (Calls(importlib.import_module, "this"), "importlib.import_module"),
        "runpy": (Calls(runpy.run_path, str(mark)), "runpy.run_path"),
        "open": (Calls(open, str(mark), "w"), "io.open"),
        "library": (Calls(ctypes.CDLL, str(mark)), "ctypes.CDLL"),
        "process": (Calls(multiprocessing.Process, str(mark)), "Process"),
        "method": (Calls(operator.methodcaller, "touch"), "operator.methodcaller"),
        "partial": (functools.partial(shutil.rmtree, str(mark.parent)), "functools.partial"),
        "numpy": (Calls(np.load, str(mark)), "numpy.load"),
        "pickle": (Calls(pickle.loads, b"x"), "pickle.loads"),
    }


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


def test_shapes_and_numbers_are_looked_at(tmp_path: Path) -> None:
    def saved(**changed: torch.Tensor) -> Path:
        torch.save({"cfg": {}, "state_dict": {**arrays(), **changed}}, tmp_path / "a.pt")
        return tmp_path / "a.pt"

    for changed, said in (
        ({"W_enc": arrays()["W_dec"]}, "W_enc has the shape"),
        ({"b_dec": torch.full((D,), float("nan"))}, "b_dec holds NaN"),
        ({"b_enc": torch.zeros(S, dtype=torch.int64)}, "b_enc is of the type int64"),
        ({"r_mag": torch.zeros(S)}, "also holds r_mag"),
        ({"threshold": torch.ones(S)}, "also holds threshold"),
    ):
        with pytest.raises(CytosaeError, match=said):
            import_sae(saved(**changed))
    halves = {name: value.half() for name, value in arrays().items()}
    same_bytes(import_sae(saved(**halves)), {name: value.float() for name, value in halves.items()})
    doubled = import_sae(saved(W_dec=arrays()["W_dec"].double()))
    assert doubled.metadata["imported"]["changes"] == ["W_dec: rounded from float64 to float32"]


def odd_tensors() -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    """Tensors that are no plain arrays of numbers, and what is said of each."""
    dense = arrays()["W_dec"]
    with warnings.catch_warnings():  # torch says of some that they are new or old
        warnings.simplefilter("ignore")
        return {
            "sparse": ({"W_dec": dense.to_sparse()}, "W_dec is a sparse tensor"),
            "sparse rows": ({"W_dec": dense.to_sparse_csr()}, "W_dec is a sparse tensor"),
            "meta": ({"W_enc": arrays()["W_enc"].to("meta")}, "W_enc is on the device 'meta'"),
            "quantised": (
                {"b_dec": torch.quantize_per_tensor(arrays()["b_dec"], 0.1, 0, torch.qint8)},
                "b_dec is quantised qint8",
            ),
            "nested": (
                {"b_dec": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])},
                "b_dec is a nested tensor",
            ),
            "complex": ({"b_enc": torch.zeros(S, dtype=torch.complex64)}, "b_enc is of the type complex64"),
            "bool": ({"b_enc": torch.zeros(S, dtype=torch.bool)}, "b_enc is of the type bool"),
            "eight bits": ({"W_dec": dense.to(torch.float8_e4m3fn)}, "W_dec is of the type float8_e4m3fn"),
            "repeated": ({"W_dec": torch.ones(1).expand(S, D)}, "W_dec is of the shape"),
            "no latents": (
                {"W_enc": torch.zeros(D, 0), "b_enc": torch.zeros(0), "W_dec": torch.zeros(0, D)},
                "W_dec has the shape",
            ),
            "no dimensions": (
                {"W_enc": torch.zeros(0, S), "b_dec": torch.zeros(0), "W_dec": torch.zeros(S, 0)},
                "W_dec has the shape",
            ),
            "scaling factors": ({"scaling_factor": torch.ones(S).to_sparse()}, "the scaling factor is a sparse tensor"),
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", list(odd_tensors()))
def test_tensors_of_odd_kinds_are_refused_by_name(tmp_path: Path, which: str, capsys: Any) -> None:
    changed, said = odd_tensors()[which]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(
            {"cfg": {"loss": next(iter(changed.values()))}, "state_dict": {**arrays(), **changed}}, tmp_path / "a.pt"
        )
    assert exit_code(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_ours_without_latents_is_refused(tmp_path: Path) -> None:
    SAE(D, 0).save_pretrained(tmp_path)
    with pytest.raises(CytosaeError, match="n_latents 0"):
        SAE.from_pretrained(tmp_path)


# SAELens


@pytest.mark.parametrize("config", [V6, V3, {**V3, "normalize_activations": False, "activation_fn_str": None}])
def test_saelens_is_read_as_it_computes(tmp_path: Path, config: dict[str, Any]) -> None:
    sae = import_sae(saelens_folder(tmp_path / "a", config))
    agrees(sae, by_hand(**arrays()))
    same_bytes(sae, arrays())
    assert sae.metadata["imported"]["configuration"]["d_sae"] == S
    uncentred = import_sae(saelens_folder(tmp_path / "a", {**config, "apply_b_dec_to_input": False}))
    agrees(uncentred, by_hand(**arrays(), centred=False))
    assert "b_enc" in uncentred.metadata["imported"]["changes"][0]


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_scaling_factors_of_saelens_are_folded(tmp_path: Path, name: str) -> None:
    scale = torch.linspace(0.5, 2, S)
    ones = import_sae(saelens_folder(tmp_path / "a", V3, **{name: torch.ones(S)}))
    same_bytes(ones, arrays())
    used = {**V3, "finetuning_scaling_factor": True}
    sae = import_sae(saelens_folder(tmp_path / "a", used, **{name: scale}))
    agrees(sae, by_hand(**{**arrays(), "W_dec": arrays()["W_dec"] * scale[:, None]}))
    with pytest.raises(CytosaeError, match="scaling factor"):
        import_sae(saelens_folder(tmp_path / "a", V3, **{name: scale}))


@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"architecture": "gated"}, {"b_gate": torch.zeros(S)}, "gated"),
        ({"architecture": "jumprelu"}, {}, "lacks threshold"),
        ({"architecture": "jumprelu"}, {"threshold": torch.ones(1)}, r"\(1,\)"),
        ({"architecture": "jumprelu"}, {"threshold": torch.full((S,), float("nan"))}, "NaN"),
        ({"architecture": "topk"}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3}, {"threshold": torch.ones(S)}, "also holds threshold"),
        ({"architecture": "matryoshka_batchtopk", "k": 3}, {}, "topk_threshold"),
        ({"architecture": "temporal"}, {}, "temporal"),
        ({"architecture": "abstopk", "k": 3}, {}, "abstopk"),
        ({"architecture": "transcoder"}, {}, "transcoder"),
        ({"activation_fn_str": "tanh-relu"}, {}, "tanh-relu"),
        ({"normalize_activations": "covariance_whitening"}, {}, "covariance_whitening"),
        ({"whitening_matrix": "w.pt"}, {}, "whitening_matrix"),
        ({"normalize_activations": "layer_norm"}, {}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, {}, "constant_norm_rescale"),
        ({"normalize_activations": "expected_average_only_in"}, {}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": True}, {}, "fold_activation_norm_scaling_factor"),
        ({"architecture": ["topk"]}, {}, r"architecture is \['topk'\]"),
        ({"architecture": {"name": "topk"}}, {}, "architecture is"),
        ({"architecture": "topk", "k": [3]}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3, "activation_fn_kwargs": {"k": {}}}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": float("inf")}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": float("nan")}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": "false"}, {}, "expected true or false"),
        ({"activation_fn_str": ["relu"]}, {}, "the activation"),
        ({"normalize_activations": [1]}, {}, "normalize_activations"),
        ({"apply_b_dec_to_input": "false"}, {}, "expected true or false"),
        ({"finetuning_scaling_factor": True}, {"scaling_factor": torch.full((1,), 2.0)}, r"shape \(1,\)"),
        ({"architecture": "batchtopk", "k": 3}, {"topk_threshold": torch.ones(3)}, r"shape \(3,\)"),
        ({"d_in": D + 1}, {}, f"d_in is {D + 1}, but the weights have {D} dimensions"),
        ({"d_sae": 2 * S}, {}, f"d_sae is {2 * S}, but the weights have {S} latents"),
        ({"d_sae": [S]}, {}, "d_sae"),
    ],
)
def test_what_our_equations_cannot_say_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], more: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(CytosaeError, match=said):
        import_sae(saelens_folder(tmp_path / "a", {**V6, **changed}, **more))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, f'{{"d_in": {"9" * 5000}}}'])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str, capsys: Any) -> None:
    folder = saelens_folder(tmp_path / "a", V6)
    (folder / "cfg.json").write_text(text, encoding="utf-8")
    assert exit_code(["import", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "cfg.json: not a JSON file" in capsys.readouterr().err
    path = tmp_path / "sae.pt"
    path.write_bytes(text.encode() + b"\n")
    with pytest.raises(CytosaeError, match="does not begin with a line of JSON"):
        import_sae(path, "saev")
    assert not (tmp_path / "out").exists()


def test_a_jumprelu_without_thresholds_is_a_relu(tmp_path: Path) -> None:
    config = {**V6, "architecture": "jumprelu"}
    same_bytes(import_sae(saelens_folder(tmp_path / "a", config, threshold=torch.zeros(S))), arrays())


def test_export_keeps_every_byte(tmp_path: Path) -> None:
    made = SAE(D, S, {"backbone": {"name": "dinobloom-b", "layer": 10}})
    made.load_state_dict(arrays())
    made.save_pretrained(tmp_path / "sae")
    assert exit_code(["export", str(tmp_path / "sae"), "-o", str(tmp_path / "lens"), "--format", "saelens"]) == 0
    written = load_file(tmp_path / "lens" / "sae_weights.safetensors")
    assert {name: tuple(value.shape) for name, value in written.items()} == {
        "W_enc": (D, S),
        "b_enc": (S,),
        "W_dec": (S, D),
        "b_dec": (D,),
    }
    for name, value in arrays().items():
        assert written[name].numpy().tobytes() == value.numpy().tobytes()
    config = json.loads((tmp_path / "lens" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "blocks.10.hook_resid_post"
    same_bytes(import_sae(tmp_path / "lens"), arrays())


def expected_of(kind: str) -> tuple[np.ndarray, np.ndarray]:
    if kind == "batchtopk":
        return activation_by_hand("jumprelu", threshold=torch.tensor(0.7))
    return by_hand(**arrays()) if kind == "relu" else activation_by_hand(kind)


KINDS = ("relu", "topk", "batchtopk", "jumprelu", "gated")
THEIRS = {"relu": "standard", "batchtopk": "jumprelu"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_activation_goes_out_and_comes_back(tmp_path: Path, kind: str, capsys: Any) -> None:
    made_by(kind).save_pretrained(tmp_path / "sae")
    assert exit_code(["export", str(tmp_path / "sae"), "-o", str(tmp_path / "lens"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == THEIRS.get(kind, kind)
    config = json.loads((tmp_path / "lens" / "cfg.json").read_text())
    written = load_file(tmp_path / "lens" / "sae_weights.safetensors")
    assert config["architecture"] == THEIRS.get(kind, kind)
    # The equation of SAELens for this architecture, in its own words.
    p = (tokens() - written["b_dec"]) @ written["W_enc"]
    if kind == "gated":
        active = (p + written["b_gate"] > 0).float()
        h = active * torch.relu(
            (tokens() - written["b_dec"]) @ (written["W_enc"] * written["r_mag"].exp()) + written["b_mag"]
        )
    elif kind == "topk":
        assert (config["k"], config["rescale_acts_by_decoder_norm"]) == (4, False)
        values, places = (p + written["b_enc"]).topk(config["k"], dim=-1)
        h = torch.zeros_like(p).scatter(-1, places, torch.relu(values))
    else:
        h = torch.relu(p + written["b_enc"])
        if kind != "relu":
            h = h * (p + written["b_enc"] > written["threshold"])
    expected = expected_of(kind)
    np.testing.assert_allclose(h.numpy(), expected[0], atol=2e-5)
    back = import_sae(tmp_path / "lens")
    assert back.activation.described() == made_by(kind).activation.described()
    agrees(back, expected)
    agrees(made_by(kind), expected)


def test_what_saelens_saves_is_read_as_it_computes(tmp_path: Path) -> None:
    """Its TopK rescales by the norms of the directions by default, and saves a training with its running threshold."""
    scale = torch.linspace(0.5, 2, S)[:, None]
    longer = {"W_dec": arrays()["W_dec"] * scale}

    def saved(**config: Any) -> dict[str, Any]:
        return {**V6, **config}

    def by(kind: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("support.foreign_weights.arrays", lambda: {**plain_arrays, **longer})
            return activation_by_hand(kind, rescaled=True, **options)

    plain_arrays = arrays()
    config = saved(architecture="topk", k=4, rescale_acts_by_decoder_norm=True)
    sae = import_sae(saelens_folder(tmp_path / "a", config, **longer))
    agrees(sae, by("topk"))
    assert "rescale_acts_by_decoder_norm" in sae.metadata["imported"]["changes"][0]
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(S))
    sae = import_sae(saelens_folder(tmp_path / "b", {**config, "apply_b_dec_to_input": False}, **longer))
    agrees(sae, by("topk", centred=False))
    threshold = torch.tensor(0.9, dtype=torch.float64)
    for architecture in ("batchtopk", "matryoshka_batchtopk"):
        config = saved(architecture=architecture, k=6.0, rescale_acts_by_decoder_norm=True, topk_threshold_lr=0.01)
        sae = import_sae(saelens_folder(tmp_path / architecture, config, topk_threshold=threshold, **longer))
        agrees(sae, by("jumprelu", threshold=threshold))
        assert sae.activation.described() == {"kind": "batchtopk", "k": 6}
    gated = {name: value for name, value in {**arrays(), **gate()}.items() if name != "b_enc"}
    folder = saelens_folder(tmp_path / "c", saved(architecture="gated", apply_b_dec_to_input=False))
    save_file(gated, folder / "sae_weights.safetensors")
    agrees(import_sae(folder), activation_by_hand("gated", centred=False))
    some = thresholds()
    some[:5], some[5] = 0, -1  # there the ReLU before it decides
    sae = import_sae(saelens_folder(tmp_path / "d", saved(architecture="jumprelu"), threshold=some))
    agrees(sae, activation_by_hand("jumprelu", threshold=some))
    assert "not above 0" in sae.metadata["imported"]["changes"][0]
    old = {**V3, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}
    agrees(import_sae(saelens_folder(tmp_path / "e", old)), activation_by_hand("topk"))


def test_files_that_are_there_are_left_alone(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    made_by("relu").save_pretrained(tmp_path / "sae")
    path = release_file(tmp_path / "a.pt", elsewhere)
    for command, name in (
        (["export", str(tmp_path / "sae")], "cfg.json"),
        (["export", str(tmp_path / "sae")], "sae_weights.safetensors"),
        (["import", str(path)], "config.json"),
        (["import", str(path)], "model.safetensors"),
    ):
        folder = tmp_path / f"{command[0]}-{name}"
        folder.mkdir()
        (folder / name).write_text("mine")
        assert exit_code([*command, "-o", str(folder)]) == 2
        assert "already" in capsys.readouterr().err
        assert [(one.name, one.read_text()) for one in folder.iterdir()] == [(name, "mine")]


_OTHER_SIDE = """
import json, sys
import numpy as np, torch, sae_lens
from sae_lens import *
folder, kinds = sys.argv[1], sys.argv[2].split(",")
x = torch.from_numpy(np.load(folder + "/x.npy"))
architectures = {}
def note(name, sae):
    np.savez(folder + f"/{name}.npz", h=sae.encode(x).numpy(), xhat=sae(x).numpy())
with torch.no_grad():
    for kind in kinds:
        theirs = SAE.load_from_disk(folder + f"/export-{kind}")
        architectures[kind] = theirs.cfg.architecture()
        note(f"export-{kind}", theirs)
    size = dict(d_in=x.shape[1], d_sae=40)
    used = {
        "standard": (StandardSAE, StandardSAEConfig(**size)),
        "uncentred": (StandardSAE, StandardSAEConfig(**size, apply_b_dec_to_input=False)),
        "gated": (GatedSAE, GatedSAEConfig(**size)),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig(**size)),
        "topk": (TopKSAE, TopKSAEConfig(**size, k=4)),
        "topk-rescaled": (TopKSAE, TopKSAEConfig(**size, k=4, rescale_acts_by_decoder_norm=True)),
    }
    trained = {
        "train-topk": (TopKTrainingSAE, TopKTrainingSAEConfig(**size, k=4)),
        "train-batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**size, k=4)),
        "train-matryoshka": (
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig(**size, k=4, matryoshka_widths=[10, 40]),
        ),
        "train-jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig(**size)),
        "train-standard": (StandardTrainingSAE, StandardTrainingSAEConfig(**size)),
        "train-gated": (GatedTrainingSAE, GatedTrainingSAEConfig(**size)),
    }
    for name, (kind, config) in {**used, **trained}.items():
        made = kind(config)
        torch.manual_seed(5)
        for value in made.parameters():
            value.normal_()
        made.W_dec *= 0.3
        if hasattr(made, "threshold"):
            made.threshold.abs_()
        if hasattr(made, "topk_threshold"):
            made.topk_threshold += 0.8
        made.save_model(folder + f"/{name}")
        if name in trained:
            made.save_inference_model(folder + f"/{name}-inference")
            made = SAE.load_from_disk(folder + f"/{name}-inference")
            note(f"{name}-inference", made)
        note(name, made)
saved = [*used, *trained, *(f"{name}-inference" for name in trained)]
print(json.dumps({"version": sae_lens.__version__, "architectures": architectures, "saved": saved}))
"""


def test_saelens_reads_ours_and_we_read_what_it_saved(tmp_path: Path) -> None:
    python = sys.executable if find_spec("sae_lens") else os.environ.get("CYTOSAE_SAELENS")
    if not python:
        pytest.skip("sae_lens is not installed; CYTOSAE_SAELENS can name a Python that has it")
    for kind in KINDS:
        write_saelens(made_by(kind), tmp_path / f"export-{kind}")
    np.save(tmp_path / "x.npy", tokens().numpy())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [python, "-c", _OTHER_SIDE, str(tmp_path), ",".join(KINDS)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["architectures"] == {kind: THEIRS.get(kind, kind) for kind in KINDS}
    assert int(told["version"].split(".")[0]) >= 6
    for name in (*(f"export-{kind}" for kind in KINDS), *told["saved"]):
        mine = made_by(name.removeprefix("export-")) if name.startswith("export-") else import_sae(tmp_path / name)
        theirs = np.load(tmp_path / f"{name}.npz")
        xhat, h = (value.detach().numpy() for value in mine(tokens()))
        # Where something was folded in it is rounded once more, and a gate is multiplied in another order; sizes are 30.
        same = name.startswith("export-") or name in ("standard", "topk", "jumprelu")
        rounding = 1e-5 if "gated" in name else 1e-6 if same else 1e-4
        np.testing.assert_allclose(h, theirs["h"], rtol=1e-6, atol=rounding, err_msg=name)
        np.testing.assert_allclose(xhat, theirs["xhat"], rtol=1e-6, atol=rounding, err_msg=name)
    same_bytes(import_sae(tmp_path / "standard"), load_file(tmp_path / "standard" / "sae_weights.safetensors"))


# dictionary_learning


@pytest.mark.parametrize("legacy", [True, False])
def test_dictionary_learning_is_read_as_it_computes(tmp_path: Path, legacy: bool) -> None:
    folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
    torch.save(linear_state("bias"), folder / "ae.pt", _use_new_zipfile_serialization=not legacy)
    for source in (folder, folder / "ae.pt"):
        sae = import_sae(source)
        agrees(sae, by_hand(**arrays()))
        same_bytes(sae, arrays())
        assert sae.metadata["imported"]["configuration"]["trainer"]["lr"] == 1e-3
    new = import_sae(dictionary_file(tmp_path / "b", linear_state("decoder.bias"), "AutoEncoderNew"))
    agrees(new, by_hand(**arrays(), centred=False))


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ({"encoder.weight": 1, "decoder.weight": 1, "gate_bias": 1}, None, "GatedAutoEncoder"),
        ({"encoder.weight": 1, "decoder.weight": 1, "b_dec": 1, "k": 1, "threshold": 1}, None, "TopK"),
        ({"encoder.weight": 1, "decoder.weight": 1, "b_dec": 1}, None, "AutoEncoderTopK"),
        ({"W_enc": 1, "W_dec": 1, "b_enc": 1, "b_dec": 1, "threshold": 1}, None, "JumpReluAutoEncoder"),
        (linear_state("bias"), "BatchTopKSAE", "BatchTopKSAE"),
    ],
)
def test_other_dictionaries_are_refused_by_name(tmp_path: Path, state: Any, kind: str | None, said: str) -> None:
    state = {name: value if isinstance(value, torch.Tensor) else torch.ones(1) for name, value in state.items()}
    with pytest.raises(CytosaeError, match=said):
        import_sae(dictionary_file(tmp_path / "a", state, kind))


@pytest.mark.parametrize("place", ["trainer", "buffer", None])
def test_settings_of_dictionary_learning_and_saev_are_looked_at(tmp_path: Path, place: str | None) -> None:
    def saved(**more: Any) -> tuple[Path, Path]:
        folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
        config = json.loads((folder / "config.json").read_text())
        (config[place] if place else config).update(more)
        (folder / "config.json").write_text(json.dumps(config))
        header = saev_header(5)
        (header["cfg"] if place else header).update(more)
        return folder, saev_file(tmp_path / "sae.pt", header)

    for path in saved(mascot="owl"):
        assert import_sae(path).metadata["imported"]["ignored"] == ["mascot: owl"]
    for more in ({"k": 32}, {"norm_factor": 2.5}, {"normalize_activations": True}, {"top_k": 4}):
        for path in saved(**more):
            with pytest.raises(CytosaeError, match=next(iter(more))):
                import_sae(path)


def test_sizes_that_settings_say_are_those_of_the_weights(tmp_path: Path, elsewhere: Any) -> None:
    folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
    config = json.loads((folder / "config.json").read_text())
    for part, name, size in (
        ("trainer", "activation_dim", D),
        ("trainer", "dict_size", S),
        ("buffer", "d_submodule", D),
    ):
        (folder / "config.json").write_text(json.dumps({**config, part: {**config[part], name: size + 1}}))
        with pytest.raises(CytosaeError, match=rf"config\.json.* {name} is {size + 1}, but the weights have {size} "):
            import_sae(folder)
    for name, size in (("d_model", D), ("d_vit", D), ("d_sae", S)):
        header = saev_header(5)
        header["cfg"][name] = size + 1
        with pytest.raises(CytosaeError, match=f"{name} is {size + 1}, but the weights have {size} "):
            import_sae(saev_file(tmp_path / "sae.pt", header))
    for name, size in (("in_dimensions", D), ("nb_concepts", S)):
        module = overcomplete_module(elsewhere)
        setattr(module.dictionary, name, size + 1)
        torch.save(module, tmp_path / "a.pt")
        elsewhere.forget()
        with pytest.raises(CytosaeError, match=f"{name} is {size + 1}, but the weights have {size} "):
            import_sae(tmp_path / "a.pt")


# overcomplete


def overcomplete_expected(state: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """By torch's own modules, in evaluation mode."""
    block: list[nn.Module] = [nn.Linear(D, S)]
    if any(".1." in name for name in state):
        block.append(nn.BatchNorm1d(S))
    encoder = nn.Sequential(*block).eval()
    prefix = "encoder.final_block."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    h = torch.relu(encoder(tokens()))
    return h.detach().numpy(), (h @ arrays()["W_dec"] * np.exp(0.3)).detach().numpy()


@pytest.mark.parametrize("norm", [True, False])
def test_overcomplete_is_read_as_it_computes(tmp_path: Path, norm: bool) -> None:
    state = overcomplete_state(norm=norm)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="does not tell SAE from TopKSAE"):
        import_sae(tmp_path / "a.pt")
    sae = import_sae(tmp_path / "a.pt", "overcomplete")
    agrees(sae, overcomplete_expected(state))
    assert len(sae.metadata["imported"]["changes"]) == 1 + norm
    state["dictionary._weights"] = state["dictionary._weights"] * 2
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="unit norm"):
        import_sae(tmp_path / "a.pt", "overcomplete")


def test_linear_encoders_with_a_layer_norm_are_refused(tmp_path: Path) -> None:
    state = overcomplete_state(norm=True)
    torch.save({k: v for k, v in state.items() if "running" not in k}, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="running_mean"):
        import_sae(tmp_path / "a.pt", "overcomplete")


def test_a_whole_module_of_overcomplete_is_read_as_fields(tmp_path: Path, elsewhere: Any) -> None:
    module = overcomplete_module(elsewhere)
    torch.save(module, tmp_path / "a.pt")
    elsewhere.forget()
    sae = import_sae(tmp_path / "a.pt")
    assert not any(name.startswith("overcomplete") for name in sys.modules)
    agrees(sae, overcomplete_expected(overcomplete_state(norm=True)))


def test_other_modules_of_overcomplete_are_refused(tmp_path: Path, elsewhere: Any) -> None:
    torch.save(overcomplete_module(elsewhere, "overcomplete.sae.topk_sae.TopKSAE"), tmp_path / "a.pt")
    torch.save(overcomplete_module(elsewhere, evaluated=False), tmp_path / "b.pt")
    gelu = overcomplete_module(elsewhere)
    gelu.encoder.final_activation = nn.GELU()
    torch.save(gelu, tmp_path / "c.pt")
    hooked = overcomplete_module(elsewhere)
    hooked.encoder.register_forward_hook(torch.nn.functional.gelu)
    torch.save(hooked, tmp_path / "d.pt")
    elsewhere.forget()
    for name, changed, said in (
        ("e", {"encoder": None}, "NoneType"),
        ("f", {"dictionary": {}}, "eval"),
        ("g", {"norms": torch.zeros(3)}, "norms"),
    ):
        broken = overcomplete_module(elsewhere)
        broken._modules.update({key: value for key, value in changed.items() if key != "norms"})
        broken._parameters.update({key: value for key, value in changed.items() if key == "norms"})
        torch.save(broken, tmp_path / f"{name}.pt")
        elsewhere.forget()
        with pytest.raises(CytosaeError, match=said):
            import_sae(tmp_path / f"{name}.pt")
    endless = overcomplete_module(elsewhere)
    endless.encoder.more = endless
    torch.save(endless, tmp_path / "h.pt")
    elsewhere.forget()
    for name, said in (("a", "TopKSAE"), ("b", "eval"), ("c", "GELU"), ("d", "hooks"), ("h", "without end")):
        with pytest.raises(CytosaeError, match=said):
            import_sae(tmp_path / f"{name}.pt")


# saev


@pytest.mark.parametrize(
    ("header", "centred"),
    [
        ({"d_vit": D, "exp_factor": 4, "sparsity_coeff": 4e-4, "n_reinit_samples": 8, "ghost_grads": False}, True),
        (saev_header(2), False),
        (saev_header(3), False),
        (saev_header(4), False),
        (saev_header(5), False),
    ],
)
def test_saev_is_read_as_it_computes(tmp_path: Path, header: dict[str, Any], centred: bool) -> None:
    sae = import_sae(saev_file(tmp_path / "sae.pt", header))
    agrees(sae, by_hand(**arrays(), centred=centred))
    assert bool(sae.metadata["imported"]["changes"]) is not centred
    if centred:
        same_bytes(sae, arrays())
    assert sae.metadata["imported"]["configuration"] == header


def test_schema_1_of_saev_says_not_which(tmp_path: Path) -> None:
    path = saev_file(tmp_path / "sae.pt", {"schema": 1, "cls": "Relu", "cfg": {"d_vit": D}, "lib": "0.1.0"})
    with pytest.raises(CytosaeError, match="--format saev-centred"):
        import_sae(path)
    agrees(import_sae(path, "saev-centred"), by_hand(**arrays()))
    agrees(import_sae(path, "saev-uncentred"), by_hand(**arrays(), centred=False))


def test_other_activations_of_saev_are_refused(tmp_path: Path) -> None:
    topk = saev_header(5)
    topk["cfg"]["activation"] = {"cls": "BatchTopK", "params": {"top_k": 3}}
    for header, said in (
        (topk, "BatchTopK"),
        ({"schema": 1, "cls": "TopK", "cfg": {}}, "TopK"),
        ({"schema": 6, "cfg": {}}, "schema 6"),
        ({"schema": [2], "cfg": {}}, r"schema \[2\]"),
        ({"schema": True, "cfg": {}}, "schema True"),
        ({"schema": 2, "cfg": {"activation": {"cls": ["Relu"]}}}, "activation"),
    ):
        with pytest.raises(CytosaeError, match=said):
            import_sae(saev_file(tmp_path / "sae.pt", header))


# The command


def test_import_with_a_backbone_leads_to_concepts(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    kind = elsewhere("src.sae_training.config.ViTSAERunnerConfig")
    config = kind()
    config.block_layer = 3  # the fourth block
    made = SAE(192, 64)
    made.initialise(torch.Generator().manual_seed(0))
    torch.save({"cfg": config, "state_dict": made.state_dict()}, tmp_path / "a.pt")
    elsewhere.forget()
    command = ["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "sae"), "--json"]
    assert exit_code([*command, "--backbone", "tiny"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["n_latents"], told["unit_directions"]) == ("release", 64, True)
    recorded = SAE.from_pretrained(tmp_path / "sae").metadata["backbone"]
    assert (recorded["name"], recorded["layer"]) == ("tiny", 3)
    assert len(recorded["fingerprint"]) == 64
    assert exit_code(command) == 2
    assert "holds an autoencoder already" in capsys.readouterr().err
    command[3] = str(tmp_path / "new")
    for wrong, said in ((["--layer", "2"], "--backbone"), (["--format", "keras"], "keras")):
        assert exit_code([*command, *wrong]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_backbone_of_another_width_is_refused(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere)
    assert exit_code(["import", str(path), "-o", str(tmp_path / "sae"), "--backbone", "tiny"]) == 2
    assert "192 wide" in capsys.readouterr().err
    assert not (tmp_path / "sae").exists()


# The hub

_METADATA = {
    "training": {"expansion": 4, "l1": 8e-5, "images": 1600},
    "backbone": {
        "name": "/home/someone/secret/dino",
        "source": "/home/someone/secret/dino",
        "revision": None,
        "fingerprint": "f" * 64,
        "layer": 10,
        "depth": 12,
        "image_size": 224,
        "patch_size": 14,
        "n_tokens": 257,
    },
    "held_out": {"explained_variance": 0.8741, "l0": 220.9, "dead": 0.125, "mse": 0.1, "tokens": 2056},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with concepts, quality and names, as far as a card looks at it."""
    from cytosae.concepts import ANNOTATION

    folder = tmp_path / "study"
    sae = SAE(D, S, _METADATA)
    sae.load_state_dict(arrays())
    sae.save_pretrained(folder / "sae")
    digest = FileRecord.of(folder / "sae" / "model.safetensors").sha256
    (folder / "concepts").mkdir()
    import anndata
    import pandas as pd

    names = pd.DataFrame({ANNOTATION: [None] * S}, index=[str(i) for i in range(S)], dtype=object)
    names.loc["7", ANNOTATION] = "granules | azurophilic"
    names[ANNOTATION] = pd.Categorical(names[ANNOTATION])
    anndata.AnnData(np.zeros((1, S), np.float32), var=names).write_h5ad(folder / "concepts" / "pbc.h5ad")
    summary = {"datasets": {"pbc": {"cells": 17092, "concepts": 2936}}, "files": {"pbc": "pbc"}}
    Manifest("concepts", {"concept_threshold": -3.0}, {"sae": digest}, {}, summary).save(folder / "concepts")
    row = {"measure": "monosemanticity", "method": "latents", "value": 0.4321, "low": 0.4, "high": 0.46}
    (folder / "quality").mkdir()
    write_json(folder / "quality" / "quality.json", {"inputs": {"sae": digest}, "figures": [row]})
    return folder


def test_the_card_says_what_the_study_says(study: Path) -> None:
    import yaml

    sae = SAE.from_pretrained(study / "sae")
    text = card(sae, "owner/name", "CC-BY-4.0", evidence_of(study, study / "sae"))
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "cc-by-4.0"
    assert header["library_name"] == "cytosae"
    for expected in (
        "not for diagnosis",
        'SAE.from_pretrained("owner/name")',
        "11 of 12",
        "| explained variance | 0.8741 |",
        "| dead latents (share) | 0.125 |",
        "| pbc | 17,092 | 2,936 |",
        "| monosemanticity | latents | 0.4321 | 0.4 to 0.46 |",
        "| l1 | 8e-05 |",
    ):
        assert expected in text, expected
    bare = card(SAE(D, S), "owner/name", 'My "own" terms')
    assert yaml.safe_load(bare.split("---\n")[1])["license_name"] == 'My "own" terms'
    assert "were not measured" in bare
    assert "No study was given" in bare


def test_the_card_of_another_autoencoder_is_refused(study: Path, tmp_path: Path) -> None:
    SAE(D, S).save_pretrained(tmp_path / "other")
    with pytest.raises(CytosaeError, match="another autoencoder"):
        evidence_of(study, tmp_path / "other")
    with pytest.raises(CytosaeError, match="no concepts"):
        evidence_of(tmp_path / "nowhere", study / "sae")
    assert Evidence().datasets == {}


class _Hub:
    """What `HfApi` is asked for, with the bytes of every file."""

    calls: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self, **_: Any) -> None:
        pass

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.calls.append(("create", (name, private)))

    def create_commit(self, name: str, operations: Any, *, commit_message: str) -> Any:
        sent = {one.path_in_repo: Path(one.path_or_fileobj).read_bytes() for one in operations}
        self.calls.append(("commit", (name, sent)))
        return types.SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    import huggingface_hub

    _Hub.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", _Hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return _Hub.calls


def _push(study: Path, *more: str) -> int:
    return exit_code(["push", str(study / "sae"), "owner/name", "--licence", "mit", "--study", str(study), *more])


def test_push_uploads_three_files_in_one_commit(study: Path, hub: Any, tmp_path: Path, capsys: Any) -> None:
    assert _push(study, "--private", "--json") == 0
    assert json.loads(capsys.readouterr().out)["commit"] == "https://hub/commit/1"
    assert hub[0] == ("create", ("owner/name", True))
    (kind, (name, sent)) = hub[1]
    assert (kind, name, len(hub)) == ("commit", "owner/name", 2)
    assert set(sent) == {"model.safetensors", "config.json", "README.md"}
    assert sent["model.safetensors"] == (study / "sae" / "model.safetensors").read_bytes()
    assert b"| 7 | granules \\| azurophilic |" in sent["README.md"]
    assert not any(b"/home/someone" in content for content in sent.values())
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for file, content in sent.items():
        (downloaded / file).write_bytes(content)
    same_bytes(SAE.from_pretrained(downloaded), arrays())


def test_a_dry_run_writes_the_card_and_asks_nobody(study: Path, hub: Any, capsys: Any) -> None:
    assert _push(study, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == ["model.safetensors", "config.json", "README.md"]
    assert hub == []
    path = study / "sae" / "README.md"
    assert "granules" in path.read_text()
    path.write_text("my own words")
    assert _push(study, "--card", str(path)) == 0
    assert hub[1][1][1]["README.md"] == b"my own words"


@pytest.mark.parametrize("name", ["/", "a b/c!", "../x", "noname", "a/b/c", "owner/name\n", "owner/\udcff"])
def test_names_that_the_hub_refuses_are_refused_in_a_dry_run(tmp_path: Path, name: str, capsys: Any) -> None:
    assert exit_code(["push", str(tmp_path), name, "--licence", "mit", "--dry-run"]) == 2
    assert "not the name of a hub repository" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("licence", ["", " ", "mit\n", "mit: x", "-", "\udcff"])
def test_a_licence_is_an_identifier(tmp_path: Path, licence: str, capsys: Any) -> None:
    assert exit_code(["push", str(tmp_path), "owner/name", f"--licence={licence}", "--dry-run"]) == 2
    assert "not the identifier of a licence" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_push_is_refused_offline_and_by_the_hub(
    study: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import huggingface_hub

    def no(*_: Any, **__: Any) -> None:
        raise OSError("401 Unauthorized\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(_Hub, "create_repo", no)
        assert _push(study) == 2
        assert "401 Unauthorized)" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert _push(study) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert hub == []
    assert exit_code(["push", str(study / "sae"), "noname", "--licence", "mit"]) == 2
