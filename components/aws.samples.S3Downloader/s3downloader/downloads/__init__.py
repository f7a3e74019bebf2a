"""Carries out downloads: admission, planning, fetching, verification, publishing."""
