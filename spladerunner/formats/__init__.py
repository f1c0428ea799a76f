"""Converts a SparseVector to the format of each search engine, and back.

    from spladerunner import Expander, formats
    vector, = Expander().encode("a text")
    formats.qdrant(vector)  # {"indices": [...], "values": [...]}

Weights are written as the shortest decimals that read back as the same float32. An inverse returns the same vector, bit
for bit, unless the format rounds, as integer impacts do. FORMATS maps a format's name to a function that writes a line
of a file.

The names in `__all__` are public; the modules of this package are not.
"""

from spladerunner.formats.by_index import (
    MOST_IN_HNSW,
    from_milvus,
    from_pgvector,
    milvus,
    milvus_query,
    pgvector,
    qdrant,
    qdrant_id,
)
from spladerunner.formats.by_token import (
    elasticsearch,
    elasticsearch_query,
    from_features,
    from_vespa,
    opensearch,
    opensearch_query,
    rank_features_query,
    seismic,
    vespa,
)
from spladerunner.formats.ciff import read_ciff, write_ciff
from spladerunner.formats.lines import DEFAULT, FORMATS, WITH_PAYLOAD, LineFormatter, PayloadFormatter
from spladerunner.formats.plain import IndicesAndValues, csr, from_csr, from_indices, from_tokens, indices, tokens
from spladerunner.formats.quantized import (
    Impacts,
    anserini,
    anserini_topic,
    from_anserini,
    from_anserini_topic,
    from_impacts,
    impact_scale,
    impacts,
)

__all__ = [
    "DEFAULT",
    "FORMATS",
    "MOST_IN_HNSW",
    "WITH_PAYLOAD",
    "Impacts",
    "IndicesAndValues",
    "LineFormatter",
    "PayloadFormatter",
    "anserini",
    "anserini_topic",
    "csr",
    "elasticsearch",
    "elasticsearch_query",
    "from_anserini",
    "from_anserini_topic",
    "from_csr",
    "from_features",
    "from_impacts",
    "from_indices",
    "from_milvus",
    "from_pgvector",
    "from_tokens",
    "from_vespa",
    "impact_scale",
    "impacts",
    "indices",
    "milvus",
    "milvus_query",
    "opensearch",
    "opensearch_query",
    "pgvector",
    "qdrant",
    "qdrant_id",
    "rank_features_query",
    "read_ciff",
    "seismic",
    "tokens",
    "vespa",
    "write_ciff",
]
