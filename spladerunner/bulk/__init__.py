"""Files of texts in, files of vectors out: readers, shards, and the encoder that can be killed and started again."""

from spladerunner.bulk.encoding import encode
from spladerunner.bulk.inputs import Input
from spladerunner.bulk.records import Fields, Record, read_json_lines, read_parquet, read_text, read_tsv
from spladerunner.bulk.shard import Shard

__all__ = [
    "Fields",
    "Input",
    "Record",
    "Shard",
    "encode",
    "read_json_lines",
    "read_parquet",
    "read_text",
    "read_tsv",
]
