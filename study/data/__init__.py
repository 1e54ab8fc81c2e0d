"""Datasets as tensors in memory, class-disjoint splits, batches."""
