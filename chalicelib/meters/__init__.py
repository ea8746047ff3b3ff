"""Who says what the control plane has used: its cloud."""
