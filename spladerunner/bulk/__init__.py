"""Files of texts in, files of vectors out.

inputs ─ records ─▶ shard ─▶ Expander.stream ─ formats ─▶ resume: a file that survives being killed

records has the readers, encoding the encoder, and command its command line.
"""
