"""How the embedded base models were built (docs/embedded.md)."""
