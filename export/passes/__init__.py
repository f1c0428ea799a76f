"""Graph passes, one transformation a file, and the list of them for each target."""

from __future__ import annotations

from collections.abc import Mapping

from spladerunner.export.options import Target
from spladerunner.export.passes.append_pooling import AppendPooling
from spladerunner.export.passes.contract import Graph, Pass, Result
from spladerunner.export.passes.decode_rows import DecodeRows
from spladerunner.export.passes.external_data import ExternalData
from spladerunner.export.passes.float16 import Float16
from spladerunner.export.passes.fuse_attention import FuseAttention
from spladerunner.export.passes.keep_entries import KeepEntries
from spladerunner.export.passes.optimize import FuseOperators, Optimize
from spladerunner.export.passes.quantize import QUANTIZATIONS, Quantize
from spladerunner.export.passes.quantize_embedding import QuantizeEmbedding
from spladerunner.export.passes.slice_decoder import SliceDecoder, needs_slices
from spladerunner.export.passes.split_feed_forward import LONG, SplitFeedForward
from spladerunner.export.passes.tie_embedding import TieEmbedding

__all__ = ["QUANTIZATIONS", "WEIGHT_TYPES", "Graph", "Pass", "Result", "passes"]

WEIGHT_TYPES: Mapping[Target, str] = {"cpu": "int8", "cuda": "float16"}


def passes(
    target: Target,
    *,
    positions: int,
    head: str = "masked_lm",
    pooling: str = "max",
    activation: str = "log1p_relu",
    quantization: str = QUANTIZATIONS[0],
    vocabulary_size: int = 0,
    entries: tuple[int, ...] | None = None,
) -> tuple[Pass, ...]:
    """Passes from the converted graph to the bundle's graph, in order.

    positions: the most tokens that the model accepts. head, pooling, activation: names as in a manifest. quantization:
    one of QUANTIZATIONS. vocabulary_size: with positions, it decides if the decoder runs over slices of a text.
    entries: of the vocabulary, ascending, that the decoder keeps; None for all.

    Examples:
        >>> [each.name for each in passes("cpu", positions=512)]
        ['optimize', 'fuse attention', 'quantize', 'fuse operators', 'tie embedding', 'decode rows', 'external data']
        >>> [each.name for each in passes("cpu", positions=8192, head="token")]
        ['quantize embedding', 'optimize', 'fuse attention', 'split feed-forward', 'quantize', 'fuse operators', ...]
        >>> [each.name for each in passes("cuda", positions=512)]
        ['optimize', 'float16', 'append pooling']
    """
    if target == "cuda":  # a GPU runs padded texts together, which fused attention without a mask cannot
        return (Optimize(), Float16(), AppendPooling(pooling, activation))
    split = (SplitFeedForward(positions),) if positions > LONG else ()
    if head == "token":  # there is no decoder
        return (
            QuantizeEmbedding(),
            Optimize(),
            FuseAttention(positions),
            *split,
            Quantize(quantization),
            FuseOperators(),
            ExternalData(),
        )
    return (
        Optimize(),
        FuseAttention(positions),
        *split,
        Quantize(quantization),
        FuseOperators(),
        TieEmbedding(),
        *([KeepEntries(entries)] if entries is not None else []),
        *([DecodeRows()] if pooling == "max" else []),
        *(
            [SliceDecoder()]
            if needs_slices(positions, vocabulary_size if entries is None else len(entries), pooling)
            else []
        ),
        ExternalData(),
    )
