"""Where the sealed routing table lies for routers that start while no control plane answers: `ports.Snapshots`."""
