"""The same encoding on a cluster: ray.encode for Ray Data, spark.encode for Spark.

Scheduling, retries, spilling and placement are the engine's. Here is what runs on a worker: one Expander, which is
compared with the driver's, and a function from an Arrow table to an Arrow table, or from the lines of a part to the
part.

worker has both functions, files the command `encode --engine`, ray and spark one function each.
"""
