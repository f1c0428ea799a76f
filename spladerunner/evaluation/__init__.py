"""How well a model searches a judged collection, beside BM25. Behind the extra `eval`.

collection ─▶ systems (encode, search exactly) ─▶ measures ─▶ Evaluation ─▶ table, JSON, TREC runs, report page
"""
