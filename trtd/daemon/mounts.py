"""Which file systems change without telling."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

# Their other users write on other machines; this kernel learns of it when it asks, and inotify not at all.
_REMOTE = frozenset(
    "9p afs beegfs ceph cifs coda fuse gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs prl_fs pvfs2 smb3 "
    "smbfs vboxsf virtiofs vmhgfs".split()
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def remote_type(folder: str) -> str | None:
    """Type of the network or shared file system that a folder lies on; ``None`` if it is local, or nobody knows.

    Source: proc_pid_mountinfo(5). Of two mounts on one place the later hides the earlier.

    Args:
        folder: a real path.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, found = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]).rstrip("/")
        if len(point) >= best and (folder == point or folder.startswith(f"{point}/")):
            best, found = len(point), kind
    return found if found in _REMOTE or found.startswith("fuse.") else None
