"""NNGPT: what plugs into the host."""
