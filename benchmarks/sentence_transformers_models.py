"""Writes a checkpoint as a SparseEncoder with ONNX int8 and OpenVINO int8 graphs, and as optimum's int8 graph.

    PYTHON benchmarks/sentence_transformers_models.py CHECKPOINT MODELS FP32 TEXTS KIND

Runs in the environment of sentence-transformers, without this project. Models that exist already are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

CALIBRATION_TEXTS = 32


def write_sparse_encoder(checkpoint: Path, target: Path) -> None:
    """Writes the model for the torch backend."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.models import MLMTransformer, SpladePooling

    transformer = MLMTransformer(str(checkpoint), max_seq_length=256)
    SparseEncoder(modules=[transformer, SpladePooling(pooling_strategy="max")]).save(str(target))


def write_onnx_int8(target: Path, kind: str) -> None:
    """Adds the dynamic int8 graph. kind: "avx512_vnni" or "avx2", as the processor is."""
    from sentence_transformers import SparseEncoder, export_dynamic_quantized_onnx_model

    model = SparseEncoder(str(target), backend="onnx", model_kwargs={"export": True})
    export_dynamic_quantized_onnx_model(model, kind, str(target))


def write_openvino_int8(target: Path, texts: list[str], kind: str) -> None:
    """Adds the static int8 graph, calibrated on texts of the collection, which must be shorter than the model accepts.

    sentence-transformers would take them from a data set on the Hub and pad them to 384 tokens. kind: as of
    write_onnx_int8; without VNNI, weights keep to half their range, so that sums of products do not saturate.
    """
    from datasets import Dataset
    from optimum.intel import OVConfig, OVQuantizationConfig, OVQuantizer
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(target), backend="openvino", model_kwargs={"export": True})
    tokenize = model.tokenizer
    rows = [dict(tokenize(text, padding="max_length", max_length=256, truncation=True)) for text in texts]
    config = OVQuantizationConfig(num_samples=len(texts), overflow_fix="disable" if kind == "avx512_vnni" else "enable")
    quantizer = OVQuantizer.from_pretrained(model[0].auto_model)
    quantizer.quantize(
        ov_config=OVConfig(quantization_config=config),
        calibration_dataset=Dataset.from_list(rows),
        save_directory=str(scratch := target.parent / "openvino"),
    )
    (target / "openvino").mkdir(exist_ok=True)
    (graph,) = scratch.rglob("openvino_model.xml")
    for path in (graph.with_suffix(".bin"), graph):
        path.rename(target / "openvino" / f"openvino_model_qint8_quantized{path.suffix}")


def write_optimum_int8(fp32: Path, target: Path, kind: str) -> None:
    """Writes optimum's dynamic int8 graph beside copies of the files of `fp32`. kind: as of write_onnx_int8."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    shutil.copytree(fp32, target, dirs_exist_ok=True)
    quantizer = ORTQuantizer.from_pretrained(target, file_name="model.onnx")
    config = getattr(AutoQuantizationConfig, kind)(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=target, quantization_config=config)


def main() -> None:
    """Writes the models that are missing, OpenVINO's last, as its export fails for some checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    parser.add_argument("models", metavar="MODELS", type=Path, help="folder of the models")
    parser.add_argument("fp32", metavar="FP32", type=Path, help="folder with the float32 graph, model.onnx")
    parser.add_argument("texts", metavar="TEXTS", type=Path, help="JSON file with the list `collection`")
    parser.add_argument(
        "kind",
        metavar="KIND",
        nargs="?",
        help="avx512_vnni or avx2: optimum's kind of dynamic int8; without it, the float32 model is written alone",
    )
    arguments = parser.parse_args()
    encoder, optimum = arguments.models / "st", arguments.models / "optimum"
    if not (encoder / "modules.json").exists():
        write_sparse_encoder(arguments.checkpoint, encoder)
    if arguments.kind is None:
        return
    if not [*(encoder / "onnx").glob(f"*int8_{arguments.kind}.onnx")]:
        write_onnx_int8(encoder, arguments.kind)
    if not (optimum / "model_quantized.onnx").exists():
        write_optimum_int8(arguments.fp32, optimum, arguments.kind)
    if not (encoder / "openvino" / "openvino_model_qint8_quantized.xml").exists():
        collection = json.loads(arguments.texts.read_text(encoding="utf-8"))["collection"]
        write_openvino_int8(encoder, collection[1000 : 1000 + CALIBRATION_TEXTS], arguments.kind)


if __name__ == "__main__":
    main()
