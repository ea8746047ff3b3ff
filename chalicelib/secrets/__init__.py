"""Where the texts are kept that service files name instead of holding them: `ports.Secrets`."""
