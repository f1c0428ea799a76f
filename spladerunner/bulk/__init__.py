"""Files of texts to files of vectors, in order, in constant memory, and resumable.

inputs ─ readers ─▶ lines ─▶ shard ─▶ Expander.stream ─ formats ─▶ resume: the output file, saved in steps

job has encode(), which connects these; progress shows how far a job is.
"""

from spladerunner.bulk.job import Progress, encode
from spladerunner.bulk.shard import Shard

__all__ = ["Progress", "Shard", "encode"]
