"""The structure of LEMUR's networks, as it ships with the package."""
