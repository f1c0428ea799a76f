"""Retrieval quality of models on judged collections, compared with BM25. Needs the extra `eval`.

collection ─▶ systems (encode, exact search, fusion) ─▶ measures ─▶ Evaluation ─▶ rows ─▶ table, JSON, report; TREC runs
evaluations of several collections ─▶ Means
"""
