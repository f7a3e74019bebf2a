"""What all other packages use: records, errors, settings, the clock, checksums, the log."""
