"""Files of texts to files of vectors, in order, in constant memory, and resumable.

inputs ─ readers ─▶ lines ─▶ shard ─▶ vectors ─ formats ─▶ writer: resume (a file, saved in steps), parts or stream

job has encode(), which connects these; progress shows how far a job is.
"""

from spladerunner.bulk.job import Progress, encode
from spladerunner.bulk.shard import Shard
from spladerunner.bulk.vectors import Windows

__all__ = ["Progress", "Shard", "Windows", "encode"]
