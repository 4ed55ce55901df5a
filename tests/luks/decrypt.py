#!/usr/bin/env python3
"""Decrypts the segment of a LUKS2 image without any code of ours: decrypt.py IMAGE KEY_FILE OFFSET SECTOR_SIZE OUTPUT."""
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

image, key_file, offset, size, output = sys.argv[1:]
offset, size = int(offset), int(size)
key = open(key_file, "rb").read()
data = open(image, "rb").read()[offset:]
with open(output, "wb") as out:
    for at in range(0, len(data) - len(data) % size, size):
        # plain64 counts 512 bytes, whatever the size of a sector.
        tweak = (at // 512).to_bytes(16, "little")
        decryptor = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
        out.write(decryptor.update(data[at:at + size]) + decryptor.finalize())
