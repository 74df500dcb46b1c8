//! Sets of integers in order, as small as their widest member allows.
//!
//! ```text
//! width u8 (2, 4 or 8) | members, each `width` bytes, two's complement BE, ascending
//! ```

use std::cmp::Ordering;

/// Members of a set of integers, wherever they lie.
#[derive(Clone, Copy)]
pub struct Integers<'a> {
    width: usize,
    bytes: &'a [u8],
}

/// Bytes that a member needs.
fn width_of(value: i64) -> usize {
    match value {
        _ if i16::try_from(value).is_ok() => 2,
        _ if i32::try_from(value).is_ok() => 4,
        _ => 8,
    }
}

impl<'a> Integers<'a> {
    /// `None`: these are no integers of a known width.
    pub fn decode(width: u8, bytes: &'a [u8]) -> Option<Integers<'a>> {
        let width = match width {
            2 | 4 | 8 => usize::from(width),
            _ => return None,
        };
        bytes
            .len()
            .is_multiple_of(width)
            .then_some(Integers { width, bytes })
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The member at `index`, which must be below the number of members.
    pub fn get(&self, index: usize) -> i64 {
        let bytes = &self.bytes[index * self.width..][..self.width];
        let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        bytes
            .iter()
            .fold(sign, |sum, byte| sum << 8 | i64::from(*byte))
    }

    /// Where `value` is, or else would be.
    pub fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(&value) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> + use<'a> {
        let own = *self;
        (0..own.len()).map(move |index| own.get(index))
    }
}

/// A set of integers that is being changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegersEdit {
    width: usize,
    bytes: Vec<u8>,
}

impl Default for IntegersEdit {
    fn default() -> IntegersEdit {
        IntegersEdit {
            width: 2,
            bytes: Vec::new(),
        }
    }
}

impl From<Integers<'_>> for IntegersEdit {
    fn from(integers: Integers<'_>) -> IntegersEdit {
        let mut bytes = Vec::with_capacity(integers.bytes.len() + 16);
        bytes.extend_from_slice(integers.bytes);
        IntegersEdit {
            width: integers.width,
            bytes,
        }
    }
}

impl IntegersEdit {
    pub fn view(&self) -> Integers<'_> {
        Integers {
            width: self.width,
            bytes: &self.bytes,
        }
    }

    pub fn width(&self) -> u8 {
        self.width as u8
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// False: it was there.
    pub fn insert(&mut self, value: i64) -> bool {
        let Err(index) = self.view().search(value) else {
            return false;
        };
        self.widen(width_of(value));
        let at = index * self.width;
        let bytes = value.to_be_bytes();
        self.bytes
            .splice(at..at, bytes[bytes.len() - self.width..].iter().copied());
        true
    }

    /// False: it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(index) = self.view().search(value) else {
            return false;
        };
        let at = index * self.width;
        self.bytes.drain(at..at + self.width);
        true
    }

    fn widen(&mut self, width: usize) {
        if width <= self.width {
            return;
        }
        let mut bytes = Vec::with_capacity((self.view().len() + 1) * width);
        for value in self.view().iter() {
            bytes.extend_from_slice(&value.to_be_bytes()[8 - width..]);
        }
        (self.width, self.bytes) = (width, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_integers() {
        let mut set = IntegersEdit::default();
        for value in [5, -1, 256] {
            assert!(set.insert(value));
        }
        assert_eq!(set.width(), 2);
        assert_eq!(set.bytes(), [0xff, 0xff, 0, 5, 1, 0]);
        assert!(set.insert(-40_000));
        assert_eq!(set.width(), 4);
        assert_eq!(
            set.bytes()[..8],
            [0xff, 0xff, 0x63, 0xc0, 0xff, 0xff, 0xff, 0xff]
        );
        assert!(set.insert(i64::MAX));
        assert_eq!(set.width(), 8);
        assert_eq!(
            set.bytes()[32..],
            [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        );
    }

    #[test]
    fn members_come_out_in_order_whatever_their_width() {
        let mut values = vec![
            i64::MIN,
            i64::MIN + 1,
            -2_147_483_649,
            -2_147_483_648,
            -32_769,
            -32_768,
            -1,
            0,
            1,
            32_767,
            32_768,
            2_147_483_647,
            2_147_483_648,
            i64::MAX,
        ];
        let mut set = IntegersEdit::default();
        for step in [3, 5, 9, 11, 13] {
            for at in 0..values.len() {
                set.insert(values[at * step % values.len()]);
            }
        }
        assert_eq!(set.view().iter().collect::<Vec<_>>(), values);
        assert!(!set.insert(-1) && set.remove(-1) && !set.remove(-1));
        values.retain(|value| *value != -1);
        assert_eq!(set.view().iter().collect::<Vec<_>>(), values);
    }

    #[test]
    fn other_widths_and_cut_members_are_refused() {
        assert!(Integers::decode(3, &[0; 6]).is_none());
        assert!(Integers::decode(4, &[0; 6]).is_none());
        assert_eq!(Integers::decode(2, &[0; 6]).map(|i| i.len()), Some(3));
    }
}
