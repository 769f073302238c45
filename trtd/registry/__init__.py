"""The registry of published engines: its layout, manifests, atomic publish, rollback, lookup and retention."""
