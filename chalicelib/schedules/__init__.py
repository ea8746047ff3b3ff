"""What wakes functions: `ports.Schedule` and `ports.Relay`."""
