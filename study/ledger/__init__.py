"""The one truth of a study: an append-only file of checksummed lines, written by one driver."""
