"""Decides when and how fast downloads run: bandwidth, deadlines, failures, deferral of updates."""
