"""The command line: parser, exit codes, one module a verb."""
