"""Ed25519 signatures, verified with the standard library alone; making them is left to a library that guards secrets.

Nothing here is secret, so nothing needs to take constant time. Reference: RFC 8032, sections 5.1 and 6. Stricter than it demands:
keys of small order, under which one signature fits many messages, verify nothing.
"""

from __future__ import annotations

import hashlib

Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates: x = X/Z, y = Y/Z, x*y = T/Z."""

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, P - 2, P) % P
_SQRT_M1 = pow(2, (P - 1) // 4, P)
_ZERO: Point = (0, 1, 1, 0)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature [64 bytes] of a message was made with the secret half of a public key [32 bytes]."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key = _decompress(public)
    s = int.from_bytes(signature[32:], "little")
    if key is None or s >= L or _same(_times8(key), _ZERO):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return _compress(_combine(s, h, _negative(key))) == signature[:32]


def _combine(s: int, h: int, point: Point) -> Point:
    """Return s*B + h*point, doubling once for both."""
    both = _add(_BASE, point)
    total = _ZERO
    for bit in range(max(s.bit_length(), h.bit_length()) - 1, -1, -1):
        total = _double(total)
        first, second = s >> bit & 1, h >> bit & 1
        if first and second:
            total = _add(total, both)
        elif first:
            total = _add(total, _BASE)
        elif second:
            total = _add(total, point)
    return total


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * _D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _double(p: Point) -> Point:
    a, b, c = p[0] * p[0] % P, p[1] * p[1] % P, 2 * p[2] * p[2] % P
    h = a + b
    e = h - (p[0] + p[1]) ** 2 % P
    g = a - b
    f = c + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times8(p: Point) -> Point:
    return _double(_double(_double(p)))


def _negative(p: Point) -> Point:
    return -p[0] % P, p[1], p[2], -p[3] % P


def _same(p: Point, q: Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def _compress(p: Point) -> bytes:
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decompress(data: bytes) -> Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = _recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _recover_x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _SQRT_M1 % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


_BASE_Y = 4 * pow(5, P - 2, P) % P
_BASE_X = _recover_x(_BASE_Y, 0) or 0
_BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)
