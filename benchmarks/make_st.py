"""The checkpoint as sentence-transformers' SparseEncoder, with its ONNX and OpenVINO int8 graphs, and as optimum's.

PYTHON benchmarks/make_st.py CHECKPOINT FOLDER TEXTS    in sentence-transformers' environment
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

SAMPLES = 32


def main() -> None:
    """Makes each where it is not there yet; says which cannot be made."""
    checkpoint, folder, texts = map(Path, sys.argv[1:])
    from sentence_transformers import (
        SparseEncoder,
        export_dynamic_quantized_onnx_model,
        export_static_quantized_openvino_model,
    )
    from sentence_transformers.sparse_encoder.models import MLMTransformer, SpladePooling

    target = folder / "st"
    if not (target / "modules.json").exists():
        transformer = MLMTransformer(str(checkpoint), max_seq_length=256)
        pooling = SpladePooling(pooling_strategy="max")
        SparseEncoder(modules=[transformer, pooling]).save(str(target))
    if not (target / "onnx" / "model_qint8_avx512_vnni.onnx").exists():
        model = SparseEncoder(str(target), backend="onnx", model_kwargs={"export": True})
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(target))
    if not (folder / "optimum" / "model_quantized.onnx").exists():
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        shutil.copytree(folder / "fp32", folder / "optimum", dirs_exist_ok=True)
        quantizer = ORTQuantizer.from_pretrained(folder / "optimum", file_name="model.onnx")
        config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        quantizer.quantize(save_dir=folder / "optimum", quantization_config=config)
    if not (target / "openvino" / "openvino_model_qint8_quantized.xml").exists():
        model = SparseEncoder(str(target), backend="openvino", model_kwargs={"export": True})
        quantize_openvino(
            model, target, json.loads(texts.read_text())["collection"], export_static_quantized_openvino_model
        )


def quantize_openvino(model, target, texts, export) -> None:  # type: ignore[no-untyped-def]
    """Static int8, calibrated on texts of the collection in place of a data set on the Hub."""
    from optimum.intel import OVQuantizationConfig

    calibration = target.parent / "calibration"
    calibration.mkdir(exist_ok=True)
    lines = [json.dumps({"sentence": text}) + "\n" for text in texts[1000 : 1000 + SAMPLES]]
    (calibration / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    export(
        model,
        OVQuantizationConfig(num_samples=SAMPLES),
        str(target),
        dataset_name=str(calibration),
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
    )


if __name__ == "__main__":
    main()
