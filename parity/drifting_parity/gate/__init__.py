"""The gate: findings about an implementation against what its owner declares of it."""
