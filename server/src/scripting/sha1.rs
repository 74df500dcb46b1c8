//! SHA1, by which scripts are known.

use sha1::{Digest, Sha1};

/// 40 hex digits in lower case.
pub(crate) type Hex = [u8; 40];

/// The SHA1 of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

/// What a client says is a SHA1, its letters made small; `None`: it cannot be one.
pub(crate) fn from_client(text: &[u8]) -> Option<Hex> {
    let mut hex: Hex = text.try_into().ok()?;
    hex.make_ascii_lowercase();
    Some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_hexadecimal() {
        assert_eq!(&hex(b""), b"da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(from_client(&[b'A'; 40]), Some([b'a'; 40]));
        assert_eq!(from_client(b"short"), None);
    }
}
