"""Used by the training loop: engine, processes, big losses, a run's folder, optimizers, measurements."""
