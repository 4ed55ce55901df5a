"""Damages a record that was written last to the log of an XFS: tear.py IMAGE SEED torn|hole."""
import random, struct, sys

dice = random.Random(int(sys.argv[2]))
with open(sys.argv[1], "r+b") as file:
    block = file.read(512)
    size, = struct.unpack_from(">I", block, 4)
    first, = struct.unpack_from(">Q", block, 48)
    group_size, = struct.unpack_from(">I", block, 84)
    count, = struct.unpack_from(">I", block, 96)
    bits = block[124]
    start = ((first >> bits) * group_size + (first & ((1 << bits) - 1))) * size
    file.seek(start)
    log = file.read(count * size)

    def cycle(at):
        first, second = struct.unpack_from(">II", log, at * 512)
        return second if first == 0xFEEDBABE else first

    newest, sectors = cycle(0), len(log) // 512
    head = next((at for at in range(sectors) if cycle(at) != newest), sectors)
    at = head - 1 - dice.randrange(min(head, dice.choice([4, 60, 400])))
    file.seek(start + at * 512)
    if sys.argv[3] == "torn":
        old = bytearray(log[at * 512:at * 512 + 512])
        old[dice.randrange(4, 512)] ^= 0x55
        file.write(old)
    else:
        for behind in range(at, head):
            file.write(struct.pack(">I", newest - 1) + dice.randbytes(508))
