"""Making the packaged catalog: `importing` reads public price tables, `quarantine` says what in them to disbelieve."""
