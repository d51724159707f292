"""The training step of A.9 around the loss: guidance, queues, micro-batches, optimisation."""
