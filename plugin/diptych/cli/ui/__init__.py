"""What the commands share: output, progress, options, errors and exit codes."""
