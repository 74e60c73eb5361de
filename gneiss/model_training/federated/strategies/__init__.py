"""Strategies, arrays in, arrays out: in rounds (`strategy`), in regions (`hierarchy`), by arrival (`buffered`)."""
