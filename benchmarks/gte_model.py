"""Writes a bundle of GTE's shape with random weights, and its float32 graph as FastEmbed reads it.

    PYTHON -m benchmarks.gte_model VOCABULARY FOLDER

VOCABULARY has one token per line. Runs in an environment with transformers 5, which has GTE.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

TOKENS = 8192
FASTEMBED_TOKENS = 512


def write_checkpoint(vocabulary: Path, folder: Path) -> Path:
    """Writes the shape of OpenSearch's doc-v3-gte: 12 layers of 768, 30,522 tokens, 8,192 positions."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import GteConfig, GteForMaskedLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    made = BertWordPieceTokenizer(str(vocabulary), lowercase=True)._tokenizer
    size = made.get_vocab_size()
    special = {name: f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    config = GteConfig(vocab_size=size, type_vocab_size=0, max_position_embeddings=TOKENS, pad_token_id=0)
    GteForMaskedLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=TOKENS,
        **{f"{name}_token": token for name, token in special.items()},
    ).save_pretrained(folder)
    return folder


def write_graph_for_fastembed(checkpoint: Path, fp32: Path) -> None:
    """Adds the tokenizer's files to the folder of the float32 graph, for texts of 512 tokens."""
    for path in checkpoint.glob("*.json"):
        shutil.copy(path, fp32)
    config = fp32 / "tokenizer_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    changed = {**content, "model_max_length": FASTEMBED_TOKENS, "max_length": FASTEMBED_TOKENS}
    config.write_text(json.dumps(changed), encoding="utf-8")


def main() -> None:
    """Writes FOLDER/bundle and FOLDER/passes/convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary", metavar="VOCABULARY", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    arguments = parser.parse_args()
    from benchmarks.workload import FP32, write_bundle

    checkpoint = write_checkpoint(arguments.vocabulary, arguments.folder / "checkpoint")
    write_bundle(checkpoint, arguments.folder, TOKENS)
    write_graph_for_fastembed(checkpoint, arguments.folder / FP32)


if __name__ == "__main__":
    main()
