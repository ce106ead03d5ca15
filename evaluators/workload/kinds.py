"""What the memory-bound ops are: a kind for each, so that a cost model can tell a copy from a softmax.

An op that is in no table here, has no contraction handler and is not tagged pointwise by torch is
"unmodelled": it is still costed by its reads and writes, and named in a warning.
"""

from __future__ import annotations

from evaluators.workload.recorder import Call

_KINDS: dict[str, str] = {
    "normalization": (
        "native_batch_norm native_batch_norm_backward cudnn_batch_norm cudnn_batch_norm_backward "
        "_native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update "
        "_batch_norm_no_update batch_norm_backward native_layer_norm native_layer_norm_backward "
        "native_group_norm native_group_norm_backward _fused_rms_norm _fused_rms_norm_backward "
        "batch_norm_stats batch_norm_elemt batch_norm_backward_reduce batch_norm_backward_elemt "
        "_weight_norm_interface _weight_norm_interface_backward renorm renorm_ norm"
    ),
    "pooling": (
        "max_pool2d_with_indices max_pool2d_with_indices_backward max_pool3d_with_indices "
        "max_pool3d_with_indices_backward avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward "
        "_adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d "
        "_adaptive_avg_pool3d_backward adaptive_max_pool2d adaptive_max_pool2d_backward "
        "adaptive_max_pool3d adaptive_max_pool3d_backward fractional_max_pool2d "
        "fractional_max_pool2d_backward max_unpool2d adaptive_avg_pool1d avg_pool1d"
    ),
    "softmax": (
        "_softmax _softmax_backward_data _safe_softmax _log_softmax _log_softmax_backward_data logsumexp "
        "_masked_softmax _masked_softmax_backward"
    ),
    "loss": (
        "nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward mse_loss "
        "mse_loss_backward binary_cross_entropy binary_cross_entropy_backward smooth_l1_loss "
        "smooth_l1_loss_backward huber_loss huber_loss_backward soft_margin_loss soft_margin_loss_backward "
        "multi_margin_loss multi_margin_loss_backward multilabel_margin_loss_forward "
        "multilabel_margin_loss_backward binary_cross_entropy_with_logits _ctc_loss _ctc_loss_backward"
    ),
    "reduction": (
        "sum mean amax amin max min argmax argmin var var_mean std std_mean prod any all cumsum cumprod "
        "nansum aminmax count_nonzero median mode topk sort kthvalue logcumsumexp cummax cummin "
        "linalg_vector_norm _foreach_norm value_selecting_reduction_backward trace"
    ),
    "copy": (
        "clone copy copy_ _to_copy "
        "cat stack contiguous constant_pad_nd slice_backward select_backward "
        "slice_scatter select_scatter as_strided_scatter diagonal_backward unfold_backward flip roll repeat "
        "reflection_pad1d reflection_pad2d reflection_pad3d reflection_pad1d_backward "
        "reflection_pad2d_backward reflection_pad3d_backward replication_pad1d replication_pad2d "
        "replication_pad3d replication_pad1d_backward replication_pad2d_backward "
        "replication_pad3d_backward index_select gather gather_backward scatter scatter_ scatter_add "
        "scatter_add_ scatter_reduce index index_put index_put_ _index_put_impl_ _unsafe_index "
        "_unsafe_index_put index_add index_add_ index_copy index_fill masked_select masked_scatter "
        "masked_fill masked_fill_ take take_along_dim tril triu tril_ triu_ pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle im2col col2im unfold fold new_empty_strided _reshape_copy "
        "view_copy expand_copy permute_copy repeat_interleave split_with_sizes_copy unsafe_split "
        "unsafe_split_with_sizes unsafe_chunk rot90 diag_embed block_diag lift lift_fresh_copy alias_copy "
        "select_copy slice_copy t_copy transpose_copy resize_ set_ _pin_memory new_zeros new_full "
        "_chunk_cat index_fill_ index_copy_"
    ),
    "resampling": (
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d "
        "upsample_linear1d upsample_trilinear3d upsample_nearest1d_backward upsample_nearest2d_backward "
        "upsample_nearest3d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward "
        "upsample_linear1d_backward upsample_trilinear3d_backward _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact2d_backward _upsample_bilinear2d_aa "
        "_upsample_bilinear2d_aa_backward grid_sampler_2d grid_sampler_2d_backward affine_grid_generator"
    ),
    "embedding": (
        "embedding embedding_dense_backward _embedding_bag _embedding_bag_forward_only "
        "_embedding_bag_dense_backward _embedding_bag_backward _embedding_bag_per_sample_weights_backward "
        "embedding_renorm_"
    ),
    "random": (
        "bernoulli bernoulli_ native_dropout native_dropout_backward rand rand_like randn randn_like randint "
        "randint_like randperm normal normal_ uniform_ random_ exponential_ multinomial"
    ),
    "fill": (
        "zeros zeros_like ones ones_like full full_like arange linspace fill_ zero_ scalar_tensor eye "
        "new_ones fill lift_fresh one_hot logspace tril_indices triu_indices"
    ),
    "allocate": "empty empty_like empty_strided new_empty empty_permuted",
    "elementwise": (
        "prelu _prelu_kernel _prelu_kernel_backward rrelu_with_noise rrelu_with_noise_backward "
        "glu glu_backward log_sigmoid_forward log_sigmoid_backward hardtanh_backward hardswish_backward "
        "hardsigmoid_backward elu_backward gelu_backward silu_backward mish_backward threshold_backward "
        "leaky_relu_backward softplus_backward softshrink_backward hardshrink_backward sigmoid_backward "
        "tanh_backward logit_backward where _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl "
        "_thnn_fused_gru_cell _thnn_fused_gru_cell_backward bucketize searchsorted _foreach_add_ "
        "_foreach_mul_ polar complex view_as_real_copy hardswish hardswish_ hardsigmoid hardsigmoid_"
    ),
}

_KIND_OF = {f"aten::{name}": kind for kind, names in _KINDS.items() for name in names.split()}


def kind_of(call: Call) -> str | None:
    """Return the kind of a memory-bound call, or None where its arithmetic is not known."""
    kind = _KIND_OF.get(call.name)
    if kind is None and call.is_pointwise:
        return "elementwise"
    return kind


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten::{name}" for name in names.split())


# In-place ops whose first argument is only written: its old value is not read.
OVERWRITING = _aten("copy_ fill_ zero_ bernoulli_ normal_ uniform_ random_ exponential_")

# Ops that read of their first argument only the elements that they return.
GATHERING = _aten("embedding gather index index_select take take_along_dim masked_select _unsafe_index")

# Arguments whose shape is needed and whose values are not read (positions in the schema). torch holds them
# alive all the same; a compiler that plans its own memory does not have to.
UNREAD: dict[str, tuple[int, ...]] = {
    "aten::max_pool2d_with_indices_backward": (1,),
    "aten::max_pool3d_with_indices_backward": (1,),
    "aten::adaptive_max_pool2d_backward": (1,),
    "aten::adaptive_max_pool3d_backward": (1,),
    "aten::avg_pool2d_backward": (1,),
    "aten::avg_pool3d_backward": (1,),
    "aten::_adaptive_avg_pool2d_backward": (1,),
    "aten::_adaptive_avg_pool3d_backward": (1,),
    "aten::nll_loss_backward": (1,),
    "aten::nll_loss2d_backward": (1,),
    "aten::ones_like": (0,),
    "aten::zeros_like": (0,),
    "aten::full_like": (0,),
    "aten::rand_like": (0,),
    "aten::randn_like": (0,),
    "aten::randint_like": (0,),
    "aten::new_zeros": (0,),
    "aten::new_ones": (0,),
    "aten::new_full": (0,),
}

# Ops that write arguments which their schema does not declare as written: positions, and the position of
# the flag that says whether they do.
WRITTEN_UNDECLARED: dict[str, tuple[tuple[int, ...], int]] = {
    "aten::native_batch_norm": ((3, 4), 5),  # running mean and variance, while training
}
