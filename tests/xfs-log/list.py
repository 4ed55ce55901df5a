"""What Linux shows of a mounted file system, a line a node: list.py FOLDER. tests/xfs_log.rs writes the same of ours."""
import hashlib, os, stat, sys

root = os.fsencode(sys.argv[1])


def digest(data):
    return hashlib.md5(data).hexdigest()


def quoted(name):
    return "".join(chr(byte) if 33 <= byte < 127 and byte != 37 else f"%{byte:02x}" for byte in name)


def line(path):
    meta = os.lstat(path)
    content = "-"
    if stat.S_ISREG(meta.st_mode):
        with open(path, "rb", buffering=0) as file:
            content = digest(file.read(meta.st_size) if meta.st_size else b"")
    elif stat.S_ISLNK(meta.st_mode):
        content = digest(os.readlink(path))
    device = f"{os.major(meta.st_rdev)}:{os.minor(meta.st_rdev)}"
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    values = b"".join(name + b"=" + os.getxattr(path, name, follow_symlinks=False) + b";" for name in names)
    times = [meta.st_atime_ns, meta.st_mtime_ns, meta.st_ctime_ns]
    return " ".join(map(str, [quoted(path[len(root):]) or "/", oct(meta.st_mode), meta.st_ino, meta.st_uid, meta.st_gid,
                              meta.st_nlink, meta.st_size, meta.st_blocks, device, *times, content, len(names), digest(values)]))


lines = [line(root)]
for folder, folders, files in os.walk(root):
    lines += [line(os.path.join(folder, name)) for name in folders + files]
print("\n".join(sorted(lines)))
