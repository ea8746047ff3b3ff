"""Whether a cloud account has what Sailplane needs: one module a cloud, each imported when its cloud is asked about."""
