"""Readers of untrusted files and the atomic writer; nothing here executes what a file contains or imports MindSpore."""
