"""Timings of this package beside its peers: `nngpt-ext bench`."""
