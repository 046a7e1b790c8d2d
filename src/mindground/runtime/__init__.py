"""Execution: device, precision, launcher, communication between ranks."""
