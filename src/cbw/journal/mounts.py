"""On what kind of file system a folder is: a journal on another machine's disk is refused."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK_TYPES = {
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb2", "smb3", "smbfs",
}  # fmt: skip
"""File systems whose files are on other machines. There a lock may be lost while its owner writes on, and a sync may be
acknowledged by a cache. 9p and virtiofs are not among them: virtual machines have folders of their own host by these."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


def file_system_of(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that ``folder`` is on, such as ``ext4``; "" where the system does not tell.

    ``mountinfo`` is the list of mounts, see proc(5); tests give one of their own.
    """
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:  # no Linux, or no /proc
        return ""
    folder = folder.resolve()
    longest, found = -1, ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not rest:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # Of two mounts at one place the later one hides the earlier.
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), rest.split(" ")[0]
    return found
