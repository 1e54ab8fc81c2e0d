"""Views of the ledger that can be rebuilt from it: MLflow, parquet, CSV."""
