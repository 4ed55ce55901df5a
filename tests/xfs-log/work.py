"""Random work in a mounted XFS, and its end in the middle: work.py FOLDER SEED ROUNDS CUT (see make-dirty)."""
import fcntl, os, random, stat, subprocess, sys, threading, time

FICLONERANGE = 0x4020940D

root, seed, rounds, cut = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.chdir(root)
dice = random.Random(seed)
has_owners = "rmapbt=1" in subprocess.run(["xfs_info", "."], capture_output=True, text=True).stdout
nodes, folders = [], ["."]
counter = 0


def name():
    global counter
    counter += 1
    return f"{dice.choice(folders)}/{'n' * dice.choice([1, 3, 12, 60, 200])}{counter}"


def some(kind=stat.S_ISREG):
    found = [path for path in dice.sample(nodes, min(len(nodes), 30)) if kind(os.lstat(path).st_mode)]
    return found[0] if found else None


def data(most):
    return dice.randbytes(16) * (dice.randrange(most) // 16 + 1)


def create():
    path = name()
    with open(path, "wb") as file:
        file.write(data(dice.choice([1, 100, 5000, 90000])))
    nodes.append(path)


def many():
    folder = name()
    os.mkdir(folder)
    folders.append(folder)
    for i in range(dice.choice([3, 40, 400, 1500])):
        path = f"{folder}/{'m' * (i % 40)}{i}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        nodes.append(path)


def remove_many():
    folder = dice.choice(folders)
    for path in [path for path in nodes if os.path.dirname(path) == folder]:
        if dice.random() < 0.9:
            os.unlink(path)
            nodes.remove(path)
    try:
        if folder != ".":
            os.rmdir(folder)
            folders.remove(folder)
    except OSError:
        pass


def write():
    path = some()
    if path:
        with open(path, "r+b") as file:
            for _ in range(dice.choice([1, 3, 60])):
                file.seek(dice.randrange(1 << 22))
                file.write(data(6000))
                if dice.random() < 0.1:
                    file.flush()
                    os.fsync(file.fileno())


def truncate():
    path = some()
    if path:
        os.truncate(path, dice.randrange(1 << 21))


def punch():
    path = some()
    if path:
        mode = dice.choice([["-p"], ["-z"], [], ["-n"]])
        subprocess.run(["fallocate", *mode, "-o", str(dice.randrange(64) * 4096), "-l", str(dice.randrange(1, 64) * 4096), path])


def clone():
    path = some()
    if path and dice.random() < 0.7:
        copy = name()
        with open(path, "rb") as source, open(copy, "wb") as target:
            try:
                fcntl.ioctl(target, 0x40049409, source.fileno())
            except OSError:
                pass
        nodes.append(copy)
        # Shared blocks are copied when they are written.
        with open(copy, "r+b") as file:
            for _ in range(dice.choice([1, 20, 200])):
                file.seek(dice.randrange(1 << 21))
                file.write(data(3000))
            file.flush()
            os.fsync(file.fileno())


def rename():
    path = some(lambda mode: not stat.S_ISDIR(mode))
    if path:
        target = name() if dice.random() < 0.7 else some(lambda mode: not stat.S_ISDIR(mode))
        same = os.path.samestat(os.lstat(path), os.lstat(target)) if target in nodes else False
        if target and target != path and not same:
            os.rename(path, target)
            nodes.remove(path)
            if target not in nodes:
                nodes.append(target)


def link():
    path = some(lambda mode: not stat.S_ISDIR(mode))
    if path:
        target = name()
        os.link(path, target, follow_symlinks=False)
        nodes.append(target)


def unlink():
    if nodes:
        path = dice.choice(nodes)
        os.unlink(path)
        nodes.remove(path)


def special():
    path = name()
    kind = dice.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        os.mknod(path, dice.choice([stat.S_IFBLK, stat.S_IFCHR]) | 0o640, os.makedev(dice.randrange(500), dice.randrange(200000)))
    else:
        os.symlink("t" * dice.choice([5, 60, 300, 300, 900]), path)
    nodes.append(path)


def change():
    path = some(lambda mode: True)
    if path:
        os.lchown(path, dice.randrange(1 << 31), dice.randrange(1 << 31))
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, dice.randrange(0o10000))
        os.utime(path, ns=(dice.randrange(1 << 60), dice.randrange(1 << 60)), follow_symlinks=False)


def attribute():
    path = dice.choice([some(), dice.choice(folders)])
    if path:
        for _ in range(dice.choice([1, 1, 12])):
            key = dice.choice(["user.", "trusted.", "security."]) + "k" * dice.choice([1, 20]) + str(dice.randrange(20))
            try:
                if dice.random() < 0.25:
                    os.removexattr(path, key)
                else:
                    os.setxattr(path, key, data(dice.choice([10, 100, 3000, 60000]))[:65000])
            except OSError:
                pass


def swap():
    # Linux 6.18 cannot mount what it left behind here without the map of owners: it looks at sums too early.
    path = some() if has_owners else None
    if path and os.stat(path).st_nlink == 1:
        donor = name()
        with open(path, "rb") as source, open(donor, "wb") as target:
            content = source.read()
            for at in range(0, len(content), 8192):
                if dice.random() < 0.8:
                    target.seek(at)
                    target.write(content[at:at + 8192])
            target.truncate(len(content))
            target.flush()
            os.fsync(target.fileno())
            os.fsync(source.fileno())
        subprocess.run(["xfs_io", "-c", f"swapext {donor}", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if dice.random() < 0.5:
            os.unlink(donor)
        else:
            nodes.append(donor)


def keep():
    path = some()
    if path:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)


def held():
    # Unlinked and open: it has no name any more.
    path = some()
    if path and dice.random() < 0.3:
        opened.append(open(path, "rb"))
        os.unlink(path)
        nodes.remove(path)


opened = []
WORK = [create, create, create, many, remove_many, write, write, truncate, punch, clone, rename, link, unlink, special,
        change, change, attribute, attribute, keep, held, swap]
if seed % 5 == 4:
    # Pieces of files, shared and copied: maps that change in several steps.
    WORK = [create, write, clone, clone, clone, punch, truncate, swap, swap, unlink]


def one():
    try:
        dice.choice(WORK)()
    except OSError as error:
        if error.errno != 28:
            raise
        remove_many()


def shut(*how):
    subprocess.run(["xfs_io", "-x", "-c", " ".join(["shutdown", *how]), "."], check=True)


for turn in range(rounds):
    if turn == rounds // 2 and seed % 3 == 1:
        # Where mkfs.xfs left room.
        subprocess.run(["xfs_growfs", "."], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(dice.choice([5, 20, 40])):
        one()
    chance = dice.random()
    if chance < 0.15:
        os.sync()
    elif chance < 0.6:
        keep()
if cut == "now":
    timer = threading.Timer(dice.random() * 1.5, shut)
    timer.start()
    try:
        while True:
            one()
            keep()
    except OSError as error:
        if error.errno != 5:
            raise
    timer.join()
else:
    shut("-f")
