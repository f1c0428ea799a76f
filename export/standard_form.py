"""A published graph in the form that the passes take: as a checkpoint's conversion would have left it.

Tools name inputs differently, use older operators, or pool inside the graph. Here a graph gets the inputs input_ids,
attention_mask and token_type_ids, int64 and of any length, one output, the logits (B, L, V), operators of opset 18, and
its weights inside, or beside it if they pass what a graph can hold. What is computed stays the same.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper, version_converter

from spladerunner.errors import CheckpointError
from spladerunner.export.passes.contract import Graph
from spladerunner.export.passes.external_data import save_apart
from spladerunner.export.passes.unused import remove_unused

OPSET = 18
"""Of optimum's graphs. The passes write operators as this opset has them."""

MOST_BYTES = 2_000_000_000
"""Of weights inside a graph: protobuf messages have 2 GiB at most."""

_NAMES = {"input_mask": "attention_mask", "segment_ids": "token_type_ids"}
"""Inputs of BERT as other tools than optimum call them."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
AXES = ("batch_size", "sequence_length")
"""Names of the first two axes, as optimum has them."""

_QUANTIZED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def weight_type(model: onnx.ModelProto) -> str:
    """Type of the weights in a graph, as in a manifest: "float32", "int8" or "float16"."""
    kinds = {constant.data_type for constant in model.graph.initializer if len(constant.dims) > 1}
    return "int8" if kinds & {*_QUANTIZED} else "float16" if kinds & {*_HALF} else "float32"


def standardize(published: Path, target: Path, tokens: int) -> Graph:
    """Writes the graph in standard form to target, and returns it.

    tokens: of the vocabulary. Raises CheckpointError if the graph is not a masked language model over at least as many,
    or takes texts of one length only.
    """
    model = onnx.load(published)
    graph = model.graph
    try:
        value, size = _find_logits(graph, tokens)
        _rename_inputs(graph)
        _widen_inputs(graph)
    except ValueError as error:
        raise CheckpointError(f"{published} cannot be exported: {error}", path=published) from error
    pools_inside = [output.name for output in graph.output] != [value]
    for node in graph.node:  # all inputs have one shape; asked of input_ids, it does not keep the others in use
        if node.op_type == "Shape" and node.input[0] in _INPUTS:
            node.input[0] = "input_ids"
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [*AXES, size]))
    if pools_inside:
        remove_unused(graph)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("", versions.get("ai.onnx", OPSET)) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    large = sum(len(constant.raw_data) for constant in model.graph.initializer) > MOST_BYTES
    if large:
        save_apart(model, target, f"{target.name}_data")
    else:
        onnx.save(model, target)
    return Graph(target)


def _find_logits(graph: onnx.GraphProto, tokens: int) -> tuple[str, int]:
    """The value that holds the logits, and their number for each token of a text.

    It is the graph's output, or, if the graph pools inside, the product with the last matrix that is as wide as the
    vocabulary, after its bias.
    """
    for output in graph.output:
        axes = output.type.tensor_type.shape.dim
        if len(axes) == 3 and axes[2].dim_value >= tokens:
            return output.name, axes[2].dim_value
    widths = {constant.name: constant.dims[-1] for constant in graph.initializer if constant.dims}
    wide = [
        node
        for node in graph.node
        if node.op_type == "MatMul" and tokens <= widths.get(node.input[1], 0) and len(node.output) == 1
    ]
    if not wide:
        shapes = {
            output.name: [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim]
            for output in graph.output
        }
        raise ValueError(
            f"it has the outputs {shapes}, none of them logits (B, L, V) over the {tokens} tokens of its tokenizer, "
            "and no product with a matrix as wide."
        )
    value, size = wide[-1].output[0], widths[wide[-1].input[1]]
    for node in graph.node:
        others = [name for name in node.input if name != value]
        if node.op_type == "Add" and len(others) == 1 and widths.get(others[0]) == size:
            value = node.output[0] if value in node.input else value
    return value, size


def _rename_inputs(graph: onnx.GraphProto) -> None:
    constants = {constant.name for constant in graph.initializer}  # old graphs list them as inputs too
    kept = [given for given in graph.input if given.name not in constants]
    del graph.input[:]
    graph.input.extend(kept)
    for given in graph.input:
        new = _NAMES.get(given.name, given.name)
        for node in graph.node:
            node.input[:] = [new if name == given.name else name for name in node.input]
        given.name = new
    if unknown := sorted({given.name for given in graph.input} - {*_INPUTS}):
        raise ValueError(f"it takes {', '.join(unknown)}; a masked language model takes {', '.join(_INPUTS)}.")


def _widen_inputs(graph: onnx.GraphProto) -> None:
    """Makes inputs int64, as the runtime gives them, and checks that they take texts of any length."""
    for given in graph.input:
        kind, axes = given.type.tensor_type.elem_type, given.type.tensor_type.shape.dim
        if any(axis.HasField("dim_value") for axis in axes[1:]):
            raise ValueError(
                f"it takes texts of {axes[1].dim_value} tokens only. Convert the model with a dynamic length."
            )
        name = given.name
        given.CopyFrom(helper.make_tensor_value_info(name, TensorProto.INT64, AXES))
        # A lookup takes both types, and a conversion any.
        narrow = [node for node in graph.node if name in node.input and node.op_type not in ("Gather", "Cast")]
        if kind != TensorProto.INT64 and narrow:
            for node in narrow:
                node.input[:] = [f"{name}_narrow" if value == name else value for value in node.input]
            graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_narrow"], to=kind))
