"""The settings and tensors that SAELens gave to a family of programs: SAELens itself, vit_prisma, CytoSAE and PatchSAE.

Read after ``sae_lens/sae.py`` of versions 3.22, 4.4 and 5.10, ``sae_lens/saes`` of 6.54, ``vit_prisma/sae/sae.py`` and
``src/sae_training/sparse_autoencoder.py`` of the release. All compute

    p = W_enc (x - apply_b_dec_to_input b_dec) + b_enc,   h = a(p),   xhat = W_dec (s h) + b_dec

with s of ones unless ``finetuning_scaling_factor`` is set (SAELens 3 to 5). a depends on ``architecture`` ("standard" where
it is missing) and, before SAELens 6, on ``activation_fn_str``:

    standard   ReLU(p)
    topk       ReLU(p) of the k largest p of a token, else 0
    jumprelu   ReLU(p) where p > threshold, else 0
    gated      ReLU(exp(r_mag) W_enc x + b_mag) where W_enc x + b_gate > 0, else 0

"batchtopk" and "matryoshka_batchtopk" are checkpoints of a training: SAELens saves them for use as a jumprelu with one
threshold, and so they are read. With ``rescale_acts_by_decoder_norm`` p is multiplied by the norms of the directions before
a, and h divided by them after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import ForeignSAE, check_kind, refuse, take
from cytosae.sae.foreign.settings import flag, is_off, not_understood, short
from cytosae.sae.objectives import Activation, BatchTopK, Gated, JumpReLU, ReLU, TopK
from cytosae.settings import TrainConfig

ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec")
_GATE = ("b_gate", "r_mag", "b_mag")
_BATCHED = ("batchtopk", "matryoshka_batchtopk")
_ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", *_BATCHED)
_ACTIVATION = ("activation_fn_str", "activation_fn", "activation_function", "activation")
_HAS_TO_BE_OFF = {
    "reshape_activations": "joins the heads of an attention layer before it encodes",
    "is_transcoder": "makes the output of a layer of its input",
    "transcoder_with_skip_connection": "adds its input to its output",
    "use_error_term": "adds what it misses to its output, which then is its input",
    "gated_sae": "has a gate besides the magnitude",
    "topk_sae": "keeps the k largest latents of a token",
    "jumprelu_sae": "sets latents below learned thresholds to 0",
}
"""Settings that are part of the equations and whose other values are not imported, and what those do."""
_HONOURED = {
    *("architecture", "activation_fn_kwargs", "k", "normalize_activations", "apply_b_dec_to_input"),
    *("finetuning_scaling_factor", "rescale_acts_by_decoder_norm"),
    *_ACTIVATION,
    *_HAS_TO_BE_OFF,
}
_TRAINING_SETTINGS = set(
    """
    act_store_device activation_vectors_per_example activations_mixing_fraction adam_beta1 adam_beta2 autocast autocast_lm
    aux_loss_coefficient b_dec_init_method batch_size begin_batch_token begin_sequence_token buffer_size_gb
    cached_activations_path checkpoint_path class class_token cls_token_only compile_llm compile_sae context_size
    create_dataloader custom_clip_ckpt_path cytosae d_in d_out d_sae dataset_name dataset_path dataset_train_path
    dataset_trust_remote_code dataset_val_path dead_feature_estimation_method dead_feature_threshold dead_feature_window
    decoder_heuristic_init decoder_heuristic_init_norm decoder_init_norm decoder_orthogonal_init device
    disable_concat_sequences dtype eval_batch_size_prompts eval_every_n_wandb_logs exclude_special_tokens expansion_factor
    experiment_metadata feature_reinit_scale feature_sampling_method feature_sampling_window finetuning_method
    finetuning_tokens from_pretrained_path hook_eval hook_head_index hook_layer hook_name hook_point hook_point_head_index
    hook_point_layer image_height image_key image_size image_width init_encoder_as_decoder_transpose initialization_method
    is_dataset_tokenized is_training jumprelu_bandwidth jumprelu_init_threshold jumprelu_l0_coefficient
    jumprelu_sparsity_loss_mode jumprelu_ste_to_input jumprelu_tanh_scale l0_coefficient l0_warm_up_steps l1_coefficient
    l1_warm_up_steps label_key layer_out_subtype layer_subtype llm_compilation_mode llm_device
    log_activations_store_to_wandb log_optimizer_state_to_wandb log_to_wandb log_weights_to_wandb logger lp_norm lr
    lr_decay_steps lr_end lr_scheduler_name lr_warm_up_steps matryoshka_levels matryoshka_min_group_fraction matryoshka_sae
    matryoshka_widths max_batch_size_for_vit_forward_pass max_grad_norm metadata min_explained_variance min_l0
    model_batch_size model_class_name model_from_pretrained_kwargs model_kwargs model_name model_path module_name
    mse_cls_coefficient mse_loss_normalization n_batches_for_norm_estimate n_batches_in_buffer n_batches_in_store
    n_checkpoints n_eval_batches n_restart_cycles n_validation_runs neuronpedia_id new_cached_activations_path noise_scale
    normalize_sae_decoder num_epochs num_workers out_hook_point_layer output_path pre_act_loss_coefficient
    prefetch_llm_batches prepend_bos resample_batches resume resume_from_checkpoint return_out_only run_name
    sae_compilation_mode sae_lens_training_version sae_lens_version save_final_checkpoint save_path
    scale_sparsity_penalty_by_decoder_norm seed seqpos_slice sparsity_loss store_batch_size store_batch_size_prompts
    store_size streaming target_l0 tied_weights tokens_per_buffer topk_aux_coefficient topk_aux_k topk_k topk_threshold_lr
    total_training_images total_training_steps total_training_tokens train_batch_size train_batch_size_samples
    train_batch_size_tokens training_examples training_tokens use_cached_activations use_ghost_grads
    use_matryoshka_aux_loss use_patches_only use_sparse_activations verbose vit_model_cfg wandb_entity wandb_id
    wandb_log_frequency wandb_project
    """.split()  # noqa: SIM905 - a hundred names in quotes are hard to read
)
"""Settings that tell what was trained on what and how, and have no part in the equations once that is over."""
_WHY = {
    "temporal": "attends to earlier tokens",
    "abstopk": "keeps the k latents of largest size, negative ones too",
    "matching_pursuit": "finds its latents one after the other",
    "transcoder": "makes the output of a layer of its input",
}


def convert_lens(path: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ForeignSAE:
    """The autoencoder of such settings and tensors.

    Parameters
    ----------
    settings
        As plain JSON.

    Raises
    ------
    CytosaeError
        A setting, or a value of one, that these equations cannot have; tensors that are missing or left over.
    """
    for name, why in _HAS_TO_BE_OFF.items():
        if not is_off(settings.get(name)):
            raise refuse(path, f"{name} {settings[name]!r}", why)
    _check_normalisation(path, settings)
    ignored = not_understood(path, settings, _HONOURED | _TRAINING_SETTINGS)
    architecture, activation = _architecture(path, settings)
    state = dict(tensors)
    scale = _scale(path, settings, state)
    imported = _equations(path, settings, state, architecture, activation)
    imported.check_sizes(path, settings, ("d_in",), ("d_sae",))
    if not isinstance(imported.activation, TopK) and not is_off(kwargs := settings.get("activation_fn_kwargs")):
        ignored = (*ignored, f"activation_fn_kwargs: {kwargs}")
    if scale is not None:
        if tuple(scale.shape) != (n_latents := len(imported.W_dec),):
            raise CytosaeError(
                f"{path}: its scaling factors have the shape {tuple(scale.shape)}; expected ({n_latents},)."
            )
        change = "W_dec: rows multiplied by finetuning_scaling_factor"
        imported = imported.changed(change, W_dec=imported.W_dec * scale[:, None])
    imported = imported.with_settings(settings, ignored)
    return imported if flag(path, settings, "apply_b_dec_to_input", True) else imported.shifted()


def _architecture(path: Path, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Architecture and activation, both known."""
    architecture = settings.get("architecture") or "standard"
    named = {name: settings[name] for name in _ACTIVATION if settings.get(name) is not None}
    # A function is identified by its full name, such as torch.nn.functional.relu.
    names = {str(value).rpartition(".")[2].lower().replace("_", "") for value in named.values()} or {"relu"}
    if not isinstance(architecture, str):
        raise CytosaeError(
            f"{path}: the setting architecture is {short(architecture)}; expected one name, such as "
            f"{_ARCHITECTURES[0]!r}. Correct it, or save the autoencoder again."
        )
    if architecture not in _ARCHITECTURES:
        raise refuse(path, f"the architecture {architecture!r}", _WHY.get(architecture, "computes something else"))
    if len(names) > 1:
        raise CytosaeError(
            f"{path}: has contradicting settings of its activation: {named}. Correct whichever is wrong."
        )
    activation = names.pop()
    if activation == "topk" and architecture == "standard":
        architecture = "topk"
    if activation != "relu" and activation != architecture:
        raise refuse(path, f"the activation {', '.join(map(repr, named.values()))}", "takes the place of the ReLU")
    for name in ("rescale_acts_by_decoder_norm", "k"):
        if not is_off(value := settings.get(name)) and architecture not in ("topk", *_BATCHED):
            raise refuse(path, f"{name} {value!r} with the architecture {architecture!r}", "belongs to a TopK")
    return architecture, activation


def _equations(
    path: Path, settings: Mapping[str, Any], state: dict[str, Tensor], architecture: str, activation: str
) -> ForeignSAE:
    expected = f"an autoencoder of the architecture {architecture!r}"
    if architecture == "gated":
        state.pop("b_enc", None)  # vit_prisma saves one that its gated autoencoder does not look at
        W_enc, W_dec, b_dec, b_gate, r_mag, b_mag = take(path, state, ("W_enc", "W_dec", "b_dec", *_GATE), expected)
        return ForeignSAE(
            path, W_enc, b_gate, W_dec, b_dec, activation=Gated(), parameters={"r_mag": r_mag, "b_mag": b_mag}
        )
    threshold = {"jumprelu": ("threshold",), **dict.fromkeys(_BATCHED, ("topk_threshold",))}.get(architecture, ())
    W_enc, b_enc, W_dec, b_dec, *thresholds = take(path, state, (*ARRAYS, *threshold), expected)
    imported = ForeignSAE(path, W_enc, b_enc, W_dec, b_dec, activation=ReLU())
    if flag(path, settings, "rescale_acts_by_decoder_norm", False):
        imported = imported.scaled_by_directions()
    if architecture == "topk":
        return imported.with_activation(TopK(_k(path, settings)))
    if thresholds:
        values = thresholds[0]
        if architecture in _BATCHED:
            if values.numel() != 1:
                raise CytosaeError(
                    f"{path}: topk_threshold has the shape {tuple(values.shape)}; expected one value, as SAELens saves "
                    "it."
                )
            values = values.reshape(1).expand(len(b_enc))
        return imported.with_thresholds(values, _thresholded(settings, architecture))
    return imported


def _k(path: Path, settings: Mapping[str, Any]) -> int:
    kwargs = settings.get("activation_fn_kwargs") or {}
    if not isinstance(kwargs, Mapping) or set(kwargs) - {"k"}:
        raise refuse(path, f"a TopK with activation_fn_kwargs {kwargs}", "can compute something else than TopK with k")
    counts = [one for one in (settings.get("k"), kwargs.get("k")) if one is not None]
    k = _whole(counts[0]) if counts and all(one == counts[0] for one in counts) else None
    if k is None:
        raise CytosaeError(
            f"{path}: a TopK that says of its k: {short(settings.get('k'))}, and in activation_fn_kwargs: "
            f"{short(kwargs.get('k'))}. Expected one whole number, 1 or larger, in one of the two places."
        )
    return k


def _whole(value: Any) -> int | None:
    """A whole number from 1; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf or value % 1:
        return None
    return int(value)


def _thresholded(settings: Mapping[str, Any], architecture: str) -> Activation:
    """What was trained with the thresholds, which after the training are all that there is."""
    metadata = settings.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    details = metadata.get("training_architecture_details")
    merged = {**settings, **details} if isinstance(details, Mapping) else settings
    k, bandwidth = _whole(merged.get("k")), merged.get("jumprelu_bandwidth")
    trained = metadata.get("training_architecture") or architecture
    if trained in _BATCHED and k is not None:
        return BatchTopK(k)
    if isinstance(bandwidth, int | float) and 0 < bandwidth < math.inf:
        return JumpReLU(float(bandwidth))
    return JumpReLU(TrainConfig().bandwidth)


def _check_normalisation(path: Path, settings: Mapping[str, Any]) -> None:
    normalised = settings.get("normalize_activations")
    if normalised == "expected_average_only_in" or normalised is True:
        raise refuse(
            path,
            "normalize_activations 'expected_average_only_in'",
            "means that tokens are multiplied by a factor that is not among these weights; fold it in with "
            "fold_activation_norm_scaling_factor of SAELens and save again",
        )
    if not is_off(normalised):
        raise refuse(path, f"normalize_activations {normalised!r}", "changes every token before it is encoded")


def _scale(path: Path, settings: Mapping[str, Any], state: dict[str, Tensor]) -> Tensor | None:
    """Factor of each latent before the decoder; it is in the file under either name, even where it is not used."""
    factors = [state.pop(name) for name in ("finetuning_scaling_factor", "scaling_factor") if name in state]
    used = not is_off(settings.get("finetuning_scaling_factor"))
    if not factors and used:
        raise CytosaeError(f"{path}: finetuning_scaling_factor is set, and the factors are not in the file.")
    for factor in factors:
        check_kind(path, "the scaling factor", factor)
    if not factors or bool((factors[0] == 1).all()):
        return None
    if not used:
        raise CytosaeError(
            f"{path}: holds a scaling factor, but its settings say that none is used (finetuning_scaling_factor). "
            "Correct whichever is wrong."
        )
    return factors[0].detach()
