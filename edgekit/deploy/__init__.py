"""From a run folder to a device: signed bundles, flashing, fleets; what the device does itself lies in :mod:`edgekit.agent`."""
