"""Keys too weak, or of a kind too old, for cryptography to make; each is made quickly, and used by nobody.

Pure: no Twisted.
"""

from __future__ import annotations

import secrets
from typing import Final

from asn1crypto.keys import PrivateKeyInfo, PublicKeyInfo, RSAPrivateKey, RSAPublicKey
from asn1crypto.pem import armor
from cryptography.hazmat.primitives.asymmetric import dsa

# RFC 5114, section 2.3: a group of 2048 bits with a subgroup of 256. Making parameters takes seconds.
_P: Final = int(
    "87A8E61DB4B6663CFFBBD19C651959998CEEF608660DD0F25D2CEED4435E3B00E00DF8F1D61957D4FAF7DF4561B2AA30"
    "16C3D91134096FAA3BF4296D830E9A7C209E0C6497517ABD5A8A9D306BCF67ED91F9E6725B4758C022E0B1EF4275BF7B"
    "6C5BFC11D45F9088B941F54EB1E59BB8BC39A0BF12307F5C4FDB70C581B23F76B63ACAE1CAA6B7902D52526735488A0E"
    "F13C6D9A51BFA4AB3AD8347796524D8EF6A167B5A41825D967E144E5140564251CCACB83E6B486F6B3CA3F7971506026"
    "C0B857F689962856DED4010ABD0BE621C3A3960A54E710C375F26375D7014103A4B54330C198AF126116D2276E11715F"
    "693877FAD7EF09CADB094AE91E1A1597",
    16,
)
_Q: Final = int(
    "8CF83642A709A097B447997640129DA299B1A47D1EB3750BA308B0FE64F5FBD3",
    16,
)
_G: Final = int(
    "3FB32C9B73134D0B2E77506660EDBD484CA7B18F21EF205407F4793A1A0BA12510DBC15077BE463FFF4FED4AAC0BB555"
    "BE3A6C1B0C6B47B1BC3773BF7E8C6F62901228F8C28CBB18A55AE31341000A650196F931C77A57F2DDF463E5E9EC144B"
    "777DE62AAAB8A8628AC376D282D6ED3864E67982428EBC831D14348F6F2F9193B5045AF2767164E1DFC967C1FB3F2E55"
    "A4BD1BFFE83B9C80D052B985D182EA0ADB2A3B7313D3FE14C8484B1E052588B9B7D2BBD2DF016199ECD06E1557CD0915"
    "B3353BBB64E0EC377FD028370DF92B52C7891428CDC67EB6184B523D1DB246C32F63078490F00EF8D647D148D4795451"
    "5E2327CFEF98C582664B4C0F6CC41659",
    16,
)

#: The usual public exponent of RSA.
_EXPONENT: Final = 65537


def dsa_key() -> dsa.DSAPrivateKey:
    """A DSA key of 2048 bits."""
    secret = 1 + secrets.randbelow(_Q - 1)
    parameters = dsa.DSAParameterNumbers(_P, _Q, _G)
    public = dsa.DSAPublicNumbers(pow(_G, secret, _P), parameters)
    return dsa.DSAPrivateNumbers(secret, public).private_key()


def rsa_key(bits: int) -> tuple[bytes, bytes]:
    """An RSA key of *bits* bits, of which cryptography demands at least 1024.

    :returns: the private key in PEM (PKCS #8), and the public key in DER (SubjectPublicKeyInfo).
    """
    p, q = _prime(bits // 2), _prime(bits // 2)
    modulus = p * q
    exponent = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    private = RSAPrivateKey(
        {
            "version": "two-prime",
            "modulus": modulus,
            "public_exponent": _EXPONENT,
            "private_exponent": exponent,
            "prime1": p,
            "prime2": q,
            "exponent1": exponent % (p - 1),
            "exponent2": exponent % (q - 1),
            "coefficient": pow(q, -1, p),
        }
    )
    info = PrivateKeyInfo.wrap(private, "rsa")
    public = PublicKeyInfo.wrap(RSAPublicKey({"modulus": modulus, "public_exponent": _EXPONENT}), "rsa")
    return armor("PRIVATE KEY", info.dump()), public.dump()


def _prime(bits: int) -> int:
    """A number of *bits* bits, the highest two of them set, that is prime as far as Fermat's test can tell.

    It errs for one random number in 10²⁰ or so, which is enough for a key that protects nothing.
    """
    while True:
        number = secrets.randbits(bits) | (0b11 << (bits - 2)) | 1
        if number % _EXPONENT != 1 and all(pow(base, number - 1, number) == 1 for base in (2, 3, 5)):
            return number
