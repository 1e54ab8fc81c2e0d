"""One trial's training: network, loss, optimizer, metrics; one result per epoch."""
