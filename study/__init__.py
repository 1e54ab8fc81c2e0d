"""How a study runs: data, losses, training, the ledger, Ray Tune and Optuna, MLflow's mirror."""
