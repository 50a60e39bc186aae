"""What the training loop calls: engine, processes, big losses, a run's folder, optimizer, measurements."""
