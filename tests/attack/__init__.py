"""Peers that mean harm: what they say, and a live system that has to go on beside them (``make attack``)."""
