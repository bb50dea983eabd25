"""Plugin slot ``transports``: ways to a device."""
