"""Retrieval quality of models on a judged collection, compared with BM25. Needs the extra `eval`.

collection ─▶ systems (encode, exact search) ─▶ measures ─▶ Evaluation ─▶ rows ─▶ table, JSON, report; and TREC runs
"""
