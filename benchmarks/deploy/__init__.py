"""Flashing measured on real connections: a device of its own user on loopback, a fleet, faults, an emulated ARM."""
