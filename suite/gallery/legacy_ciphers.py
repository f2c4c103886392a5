"""Ciphers for tlslite-ng by cryptography: its own are pure Python, and take seconds for a record of 3DES."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class CBC3DES:
    """3DES in CBC mode, which goes on from one record to the next.

    :param key: 24 bytes.
    :param iv: 8 bytes.
    """

    isBlockCipher = True  # noqa: N815  # tlslite-ng's names, here and below
    isAEAD = False  # noqa: N815
    block_size = 8
    name = "3des"
    implementation = "cryptography"

    def __init__(self, key: bytes, iv: bytes, _implementations: Any = None) -> None:
        cipher = Cipher(TripleDES(bytes(key)), modes.CBC(bytes(iv)))
        self._encryptor, self._decryptor = cipher.encryptor(), cipher.decryptor()

    def encrypt(self, plaintext: bytes) -> bytearray:
        """The ciphertext of whole blocks."""
        return bytearray(self._encryptor.update(bytes(plaintext)))

    def decrypt(self, ciphertext: bytes) -> bytearray:
        """The plaintext of whole blocks."""
        return bytearray(self._decryptor.update(bytes(ciphertext)))


class GCM:
    """AES-GCM.

    :param key: 16 or 32 bytes.
    """

    isBlockCipher = False  # noqa: N815
    isAEAD = True  # noqa: N815
    nonceLength = 12  # noqa: N815
    tagLength = 16  # noqa: N815
    implementation = "cryptography"

    def __init__(self, key: bytes, _implementations: Any = None) -> None:
        self.name = f"aes{8 * len(key)}gcm"
        self._aead = AESGCM(bytes(key))

    def seal(self, nonce: bytes, plaintext: bytes, data: bytes) -> bytearray:
        """The ciphertext, and its tag."""
        return bytearray(self._aead.encrypt(bytes(nonce), bytes(plaintext), bytes(data)))

    def open(self, nonce: bytes, ciphertext: bytes, data: bytes) -> bytearray | None:
        """The plaintext; None if the tag is wrong."""
        try:
            return bytearray(self._aead.decrypt(bytes(nonce), bytes(ciphertext), bytes(data)))
        except InvalidTag:
            return None


#: What stands for which of tlslite-ng's functions.
_MAKERS: Final = {"createTripleDES": CBC3DES, "createAESGCM": GCM}


def use_faster_ciphers(connection: Any) -> None:
    """Make *connection*, of tlslite-ng, use these where it can."""
    layer = connection._recordLayer  # noqa: SLF001  # it has no setting for that
    own = layer._getCipherSettings  # noqa: SLF001

    def settings(suite: int) -> tuple[int, int, Any]:
        key_length, iv_length, make = own(suite)
        return key_length, iv_length, _MAKERS.get(getattr(make, "__name__", ""), make)

    layer._getCipherSettings = settings  # noqa: SLF001
