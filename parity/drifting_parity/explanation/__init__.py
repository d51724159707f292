"""What an implementation computes: probes by stage, search, dials, confirmation."""
