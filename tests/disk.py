"""What a disk would hold after a power cut, by a record of what was synced."""

import os
import shutil
import stat
from pathlib import Path


class Disk:
    """Watches `os.fsync`: a file is on disk as it was then, a folder's names likewise."""

    def __init__(self, monkeypatch):
        self.files, self.folders = {}, {}
        self.syncs = 0
        real = os.fsync

        def fsync(descriptor):
            real(descriptor)
            self.syncs += 1
            found = os.fstat(descriptor)
            key = found.st_dev, found.st_ino
            if stat.S_ISDIR(found.st_mode):
                path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
                self.folders[key] = {each.name: each.lstat().st_ino for each in path.iterdir()}
            else:
                self.files[key] = found.st_size, found.st_mtime_ns

        monkeypatch.setattr(os, "fsync", fsync)
        self.patch = monkeypatch.setattr

    def lacks(self, path, *, root):
        """Why a file would not be whole after a power cut, or None; `root` itself is there."""
        found = path.stat()
        if self.files.get((found.st_dev, found.st_ino)) != (found.st_size, found.st_mtime_ns):
            return f"{path}: content was not synced after it was last written"
        while path != root:
            above = path.parent.stat()
            if self.folders.get((above.st_dev, above.st_ino), {}).get(path.name) != (
                path.lstat().st_ino
            ):
                return f"{path}: {path.parent} was not synced after the name came"
            path = path.parent
        return None

    def on_replace(self, told):
        """Has a function called with the target before a file takes its place."""
        real = os.replace

        def replace(source, target, **kwargs):
            told(Path(source), Path(target))
            real(source, target, **kwargs)

        self.patch(os, "replace", replace)

    def on_remove(self, told):
        """Has a function called before a file, or a folder with all in it, is removed."""
        unlink, rmtree = os.unlink, shutil.rmtree

        def removed(path, *args, **kwargs):
            if "dir_fd" not in kwargs:
                told(Path(path))
            unlink(path, *args, **kwargs)

        def all_removed(path, *args, **kwargs):
            told(Path(path))
            rmtree(path, *args, **kwargs)

        self.patch(os, "unlink", removed)
        self.patch(shutil, "rmtree", all_removed)
