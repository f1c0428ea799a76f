"""The card of a bundle: its README.md, written from its manifest, with the front matter that the Hub reads."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import ModelCardData

from spladerunner.export.verify import density_warning
from spladerunner.model.manifest import GraphRole, Role, RoleName, TokenWeightsRole
from spladerunner.model.provenance import Agreement, ExportManifest, GraphAgreement

_CARD = """\
---
{front_matter}
---

# {name}

A SPLADE model for [spladerunner](https://pypi.org/project/spladerunner/), which expands texts into weighted tokens on
onnxruntime, without torch.

```python
from spladerunner import Expander

expander = Expander("path/to/this/folder")
expander.expand(["a document"])
expander.expand_query(["a question"])
```

| | |
|---|---|
| license of the weights | {license} |
| vocabulary | {vocabulary_size:,} tokens |
| weights in the graphs | {weight_type} |
| made by | `{command}` |

| role | checkpoint | tokens read of a text | served by |
|---|---|---|---|
{roles}

## Agreement with the checkpoint

Measured at export against {reference}, over {texts} varied texts.

| | {heads} |
|---|{rules}|
{rows}

{warnings}Times are of one thread on the machine that made the bundle ({machine}).
"""

_PUBLISHED = "as published"
_REFERENCES = ("the checkpoint's published formula in torch, float32", "the published graph by onnxruntime, as it was")


def card(manifest: ExportManifest, languages: Sequence[str] = ()) -> str:
    """Formats the card. The manifest must have its verification and the command that made it.

    languages: codes for the front matter.
    """
    assert manifest.verification is not None and manifest.made_by is not None
    measured = manifest.verification.roles
    columns = [_figures(agreement) for agreement in measured.values()]
    labels = dict.fromkeys(label for column in columns for label in column)
    return _CARD.format(
        front_matter=_front_matter(manifest, languages),
        name=manifest.name,
        license=manifest.license,
        vocabulary_size=manifest.vocabulary.size,
        weight_type=manifest.weight_type,
        command=manifest.made_by.command,
        roles="\n".join(_row(name, role) for name, role in manifest.roles.items()),
        reference=_REFERENCES[manifest.made_by.converter == _PUBLISHED],
        texts=next(iter(measured.values())).texts,
        heads=" | ".join(measured),
        rules="|".join("---" for _ in measured),
        rows="\n".join(f"| {label} | {' | '.join(column.get(label, '') for column in columns)} |" for label in labels),
        warnings=_unmeasured(manifest)
        + "".join(
            f"**Warning:** {shortfall}.\n\n" for shortfall in (*manifest.verification.shortfalls, *_density(manifest))
        ),
        machine=manifest.verification.machine,
    )


def _front_matter(manifest: ExportManifest, languages: Sequence[str]) -> str:
    """YAML that the Hub reads. Only checkpoints of the Hub, which have a commit, are base models."""
    checkpoints = [role.checkpoint for role in manifest.roles.values()]
    base_models = list(dict.fromkeys(found.name for found in checkpoints if found and found.revision))
    quantized = base_models and manifest.weight_type != "float32"
    return ModelCardData(
        language=list(languages) or None,
        license=manifest.license.lower(),
        library_name="spladerunner",
        tags=["splade", "sparse", "sparse-encoder", "onnx"],
        base_model=base_models or None,
        pipeline_tag="feature-extraction",
        base_model_relation="quantized" if quantized else None,
    ).to_yaml()


def _density(manifest: ExportManifest) -> list[str]:
    assert manifest.verification is not None
    size = manifest.vocabulary.size
    found = {name: density_warning(agreement, size) for name, agreement in manifest.verification.roles.items()}
    return [f"{name}: {warning}" for name, warning in found.items() if warning]


def _unmeasured(manifest: ExportManifest) -> str:
    """Says of which graphs the agreement with float32 weights is unknown."""
    names = [
        name for name, role in manifest.roles.items() if isinstance(role, GraphRole) and role.quantization == _PUBLISHED
    ]
    if not names:
        return ""
    return (
        f"The graph for {' and '.join(names)} was quantized before this export and is kept as it is. Its agreement "
        "with the float32 model is not known.\n\n"
    )


def _figures(agreement: Agreement) -> dict[str, str]:
    """The figures of a role, by their labels."""
    if isinstance(agreement, GraphAgreement):
        return {
            "cosine, worst text": f"{agreement.worst_cosine:.4f}",
            "cosine, mean": f"{agreement.mean_cosine:.5f}",
            "20 heaviest tokens shared, mean": f"{agreement.mean_shared_top20:.1%}",
            "weights a text, mean": f"{agreement.mean_weights:.0f}",
            **_lost_weight(agreement),
            "float32 graph, largest difference of a weight": f"{agreement.fp32_largest_difference:.1e}",
            "time a text, float32 graph": f"{agreement.fp32_ms:.1f} ms",
            "time a text, this bundle": f"{agreement.ms:.2f} ms",
            "size, float32 graph": f"{agreement.fp32_bytes:,} bytes",
            "size, this bundle": f"{agreement.bytes:,} bytes",
        }
    return {
        "weights a text, mean": f"{agreement.mean_weights:.0f}",
        "largest difference from the source": f"{agreement.largest_difference:.1e}",
        "time a text, this bundle": f"{agreement.ms:.2f} ms",
        "size, this bundle": f"{agreement.bytes:,} bytes",
    }


def _lost_weight(agreement: GraphAgreement) -> dict[str, str]:
    if agreement.lost_weight is None:
        return {}
    return {"weight lost at entries that were left out": f"{agreement.lost_weight:.1%}"}


def _row(name: RoleName, role: Role) -> str:
    if isinstance(role, TokenWeightsRole):
        served_by = f"{role.token_weights}, a weight for each token"
    else:
        served_by = f"{role.graph}, {role.pooling} of {role.activation}"
        if role.head == "token":
            served_by += ", a weight for each token of the text alone"
        if role.lexical:
            served_by += "; vectors keep only the tokens of the text (the figures below are of all)"
        if role.entries:
            served_by += f", for the vocabulary entries in {role.entries} alone"
        if role.quantization == _PUBLISHED:
            served_by += ", quantized as published"
        elif role.quantization:
            served_by += f", int8 with {role.quantization}"
    checkpoint = "unknown"
    if role.checkpoint:
        revision = role.checkpoint.revision
        checkpoint = role.checkpoint.name + (f" at {revision}" if revision else "")
    return f"| {name} | {checkpoint} | {role.max_length} | {served_by} |"
