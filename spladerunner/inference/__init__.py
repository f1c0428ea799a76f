"""Runs texts, in the order of these modules: tokenizer, scheduler, encoder, session, pooling. Private to spladerunner.

text ─ tokenizer ─▶ TokenizedText ─ session ─▶ logits ─ pooling ─▶ SparseVector
       (prefix)      ids, mask: (1, L)  (arena)   (1, L, V)            (nnz,)

encoder joins session and pooling, or looks token weights up; scheduler runs several texts at a time; admission bounds
the texts of all callers; worker_threads runs those that wait; event_loop serves callers on asyncio; cpu_count gives the
number of threads; fork keeps forks apart from native code.
"""
