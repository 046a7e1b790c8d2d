"""Where a network runs: device, launcher, ranks."""
