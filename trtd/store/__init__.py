"""Files that survive a crash: atomic writes, locks, digests, staging folders and the content-addressed store."""
