"""The card of a bundle: its README.md, written from its manifest."""

from __future__ import annotations

from typing import Any

_CARD = """\
# {name}

A SPLADE model for [spladerunner](https://pypi.org/project/spladerunner/): texts in, weighted tokens out, on
onnxruntime alone.

```python
from spladerunner import Expander

expander = Expander("path/to/this/folder")
expander.expand(["a document"])
expander.expand_query(["a question"])
```

| | |
|---|---|
| licence of the weights | {licence} |
| vocabulary | {vocabulary_size:,} tokens |
| weights in the graphs | {weight_type} |
| made by | `{command}` |

| role | checkpoint | reads up to | served by |
|---|---|---|---|
{roles}

## How near to the checkpoint

Measured at export against the checkpoint's published formula in torch, float32, over {texts} varied texts.

| | {heads} |
|---|{rules}|
{rows}

{warning}Times are of one thread on the machine that made the bundle ({machine}).
"""

_ROWS = (
    ("cosine, worst text", "worst_cosine", "{:.4f}"),
    ("cosine, mean", "mean_cosine", "{:.5f}"),
    ("20 heaviest tokens shared, mean", "mean_shared_top20", "{:.1%}"),
    ("weights a text, mean", "mean_weights", "{:.0f}"),
    ("float32 graph, largest difference of a weight", "fp32_largest_difference", "{:.1e}"),
    ("table, largest difference of a weight", "largest_difference", "{:.1e}"),
    ("time a text, float32 as converted", "fp32_ms", "{:.1f} ms"),
    ("time a text, this bundle", "ms", "{:.2f} ms"),
    ("size of the graph, float32 as converted", "fp32_bytes", "{:,} bytes"),
    ("size of the graph or table, this bundle", "bytes", "{:,} bytes"),
)


def card(manifest: dict[str, Any]) -> str:
    """The text of the card."""
    measured = {role: found for role, found in manifest["verification"].items() if role in manifest["roles"]}
    shortfalls = manifest["verification"]["shortfalls"]
    return _CARD.format(
        name=manifest["name"],
        licence=manifest["licence"],
        vocabulary_size=manifest["vocabulary"]["size"],
        weight_type=manifest["weight_type"],
        command=manifest["made_by"]["command"],
        roles="\n".join(_role(role, described) for role, described in manifest["roles"].items()),
        texts=next(iter(measured.values()))["texts"],
        heads=" | ".join(measured),
        rules="|".join("---" for _ in measured),
        rows="\n".join(
            f"| {label} | {' | '.join(_cell(found, key, form) for found in measured.values())} |"
            for label, key, form in _ROWS
            if any(key in found for found in measured.values())
        ),
        warning="".join(f"**Warning:** {shortfall}.\n\n" for shortfall in shortfalls),
        machine=manifest["verification"]["machine"],
    )


def _cell(found: dict[str, Any], key: str, form: str) -> str:
    return form.format(found[key]) if key in found else ""


def _role(role: str, described: dict[str, Any]) -> str:
    checkpoint = described["checkpoint"] + (f" at {described['revision']}" if "revision" in described else "")
    if "table" in described:
        served_by = f"{described['table']}, a weight for each token"
    else:
        served_by = f"{described['graph']}, {described['pooling']} of {described['activation']}"
        if "quantization" in described:
            served_by += f", int8 with {described['quantization']}"
    return f"| {role} | {checkpoint} | {described['max_length']} tokens | {served_by} |"
