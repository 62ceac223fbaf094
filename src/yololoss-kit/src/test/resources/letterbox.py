#!/usr/bin/env python3
"""Computes keras-yolo3's letterbox for all pictures up to 2,000 x 2,000, independently of the Java code.

    python3 letterbox.py WIDTH HEIGHT     prints the SHA-256 of an input's placements

For each picture, widths outermost, the digest gets nw, nh, dx, dy and the corners of two boxes, each as a 32-bit little-endian
integer. LetterboxTest makes the same digest in Java and compares it with letterbox.txt; where python3 is present, it also runs
this program again. Formulas: letterbox_image and get_random_data(random=False) of github.com/qqwweee/keras-yolo3, yolo3/utils.py.
"""

import array
import hashlib
import sys

MOST = 2000


def digest(w, h):
    sha = hashlib.sha256()
    for iw in range(1, MOST + 1):
        row = array.array("i")
        for ih in range(1, MOST + 1):
            scale = min(w / iw, h / ih)
            nw = int(iw * scale)
            nh = int(ih * scale)
            dx = (w - nw) // 2
            dy = (h - nh) // 2
            x = iw // 3
            y = ih - 1
            row.extend((nw, nh, dx, dy, int(x * scale + dx), int(y * scale + dy), int(iw * scale + dx), int(ih * scale + dy)))
        if sys.byteorder == "big":
            row.byteswap()
        sha.update(row.tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    print(digest(int(sys.argv[1]), int(sys.argv[2])))
