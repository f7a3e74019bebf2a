"""Engines: fetch the files of a download into its staging folder."""
