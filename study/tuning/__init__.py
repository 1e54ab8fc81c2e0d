"""Ray Tune and Optuna live here only: who trains what, when, and who is stopped."""
