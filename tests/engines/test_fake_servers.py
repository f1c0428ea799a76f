"""What the fake servers do to weights, against Lucene's description of it and cases worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.engines.fake_servers import RefusedError, feature_field


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (1.0, 1.0),
        (1 + 2**-8, 1 + 2**-8),  # nine significant bits
        (1 + 2**-9, 1.0),  # the tenth is cut off, not rounded
        (2 - 2**-9, 2 - 2**-8),
        (0.1, 409 / 4096),  # 0.1 is 409.6 / 4096, and 409 has nine bits
        (1000.0, 1000.0),
        (1001.0, 1000.0),
        (3.4028235e38, 511 * 2.0**119),  # the largest float32
    ],
)
def test_weights_keep_nine_significant_bits(weight: float, expected: float) -> None:
    assert feature_field(weight) == expected


def test_a_weight_loses_less_than_a_256th() -> None:
    """Lucene's FeatureField: "the relative precision is 2^-8, that is, 0.390625 %"."""
    for step in range(1, 1000):
        weight = math.exp(step / 50 - 10)
        assert 0 <= (weight - feature_field(weight)) / weight < 2**-8


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.1e-38, math.inf, math.nan])
def test_weights_that_are_not_positive_normal_floats_are_refused(weight: float) -> None:
    with pytest.raises(RefusedError, match="positive normal float"):
        feature_field(weight)
    assert feature_field(1.2e-38) > 0
