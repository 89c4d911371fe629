"""Measurements of this package beside its peers, and the scripts behind published figures; not part of the wheel."""
