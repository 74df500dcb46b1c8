//! HyperLogLogs: strings in Redis's own format.
//!
//! ```text
//! header   "HYLL" | encoding u8: 0 dense, 1 sparse | 3 bytes | cached cardinality u64 LE
//! dense    16384 registers of 6 bits, the first in the low bits of the first byte
//! sparse   opcodes that cover the 16384 registers in order:
//!          00nnnnnn            n + 1 registers of 0
//!          01nnnnnn nnnnnnnn   n + 1 registers of 0
//!          1vvvvvnn            n + 1 registers of v + 1
//! ```
//!
//! The top bit of the cached cardinality says that it is out of date. How
//! opcodes are split and joined decides the bytes that GET shows and when a
//! value becomes dense, so it is done in Redis's way. The estimate is Otmar
//! Ertl's (arXiv:1702.01284). Pure; knows neither keys nor rows.

/// Bytes before the registers.
pub const HEAD: usize = 16;
pub const REGISTERS: usize = 1 << INDEX_BITS;
pub const DENSE_LEN: usize = HEAD + REGISTERS * 6 / 8;
/// No valid sparse value is longer: an opcode covers a register at least.
pub const SPARSE_MAX_LEN: usize = HEAD + 2 * REGISTERS;

const INDEX_BITS: u32 = 14;
/// Bits of a hash that are looked at for its run of zeros.
const RUN_BITS: u32 = 64 - INDEX_BITS;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const SEED: u64 = 0xadc8_3b19;
/// Largest register that an opcode can hold, and its longest run.
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
const ZERO_RUN_MAX: usize = 64;

/// The opcodes do not cover the registers exactly.
#[derive(Debug, PartialEq, Eq)]
pub struct Corrupt;

/// What all registers are, largest of several values.
pub type Registers = [u8; REGISTERS];

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperLogLog {
    bytes: Vec<u8>,
}

/// Whether a string of `len` bytes that begins with `head` is a HyperLogLog,
/// as far as Redis asks.
pub fn is_valid(head: &[u8], len: u64) -> bool {
    len >= HEAD as u64
        && head.starts_with(b"HYLL")
        && match head.get(4) {
            Some(&DENSE) => len == DENSE_LEN as u64,
            Some(&SPARSE) => true,
            _ => false,
        }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Zero(usize),
    LongZero(usize),
    Value(u8, usize),
}

impl Opcode {
    /// The opcode at `at`, which must be within `bytes`.
    fn at(bytes: &[u8], at: usize) -> Opcode {
        let first = bytes[at];
        match first >> 6 {
            0 => Opcode::Zero((first & 0x3f) as usize + 1),
            1 => {
                let second = bytes.get(at + 1).copied().unwrap_or(0);
                Opcode::LongZero((((first & 0x3f) as usize) << 8 | second as usize) + 1)
            }
            _ => Opcode::Value((first >> 2 & 0x1f) + 1, (first & 3) as usize + 1),
        }
    }

    /// Registers it covers.
    fn run(self) -> usize {
        match self {
            Opcode::Zero(run) | Opcode::LongZero(run) | Opcode::Value(_, run) => run,
        }
    }

    /// Bytes it takes.
    fn len(self) -> usize {
        match self {
            Opcode::LongZero(_) => 2,
            _ => 1,
        }
    }

    fn zeros(run: usize) -> Opcode {
        match run > ZERO_RUN_MAX {
            true => Opcode::LongZero(run),
            false => Opcode::Zero(run),
        }
    }

    fn push(self, out: &mut Vec<u8>) {
        match self {
            Opcode::Zero(run) => out.push((run - 1) as u8),
            Opcode::LongZero(run) => {
                let run = run - 1;
                out.extend_from_slice(&[0x40 | (run >> 8) as u8, run as u8]);
            }
            Opcode::Value(value, run) => out.push(0x80 | (value - 1) << 2 | (run - 1) as u8),
        }
    }
}

impl Default for HyperLogLog {
    /// An empty one: sparse.
    fn default() -> HyperLogLog {
        let mut bytes = b"HYLL".to_vec();
        bytes.push(SPARSE);
        bytes.resize(HEAD, 0);
        Opcode::LongZero(REGISTERS).push(&mut bytes);
        HyperLogLog { bytes }
    }
}

impl HyperLogLog {
    /// Takes over a string that [`is_valid`].
    pub fn of(bytes: Vec<u8>) -> HyperLogLog {
        HyperLogLog { bytes }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_sparse(&self) -> bool {
        self.bytes[4] == SPARSE
    }

    /// The cardinality that was computed last, if nothing has changed since.
    pub fn cached(&self) -> Option<u64> {
        let cached = u64::from_le_bytes(*self.bytes[8..].first_chunk()?);
        (cached >> 63 == 0).then_some(cached)
    }

    pub fn set_cached(&mut self, cardinality: u64) {
        self.bytes[8..HEAD].copy_from_slice(&cardinality.to_le_bytes());
    }

    /// The cached cardinality is out of date from now on.
    pub fn forget_cached(&mut self) {
        self.bytes[HEAD - 1] |= 0x80;
    }

    /// Adds an element. True: a register has changed.
    ///
    /// `sparse_max`: bytes up to which it stays sparse.
    pub fn add(&mut self, element: &[u8], sparse_max: usize) -> Result<bool, Corrupt> {
        let (index, run) = place_of(element);
        self.raise(index, run, sparse_max)
    }

    /// Raises a register to `value` if it is below.
    pub fn raise(&mut self, index: usize, value: u8, sparse_max: usize) -> Result<bool, Corrupt> {
        match self.is_sparse() {
            true => self.raise_sparse(index, value, sparse_max),
            false => Ok(self.raise_dense(index, value)),
        }
    }

    fn raise_dense(&mut self, index: usize, value: u8) -> bool {
        if self.dense(index) >= value {
            return false;
        }
        self.set_dense(index, value);
        true
    }

    fn dense(&self, index: usize) -> u8 {
        let (at, shift) = (HEAD + index * 6 / 8, index * 6 % 8);
        let high = self.bytes.get(at + 1).copied().unwrap_or(0);
        let both = u16::from_le_bytes([self.bytes[at], high]);
        (both >> shift) as u8 & 0x3f
    }

    fn set_dense(&mut self, index: usize, value: u8) {
        let (at, shift) = (HEAD + index * 6 / 8, index * 6 % 8);
        let (mask, value) = (0x3f_u16 << shift, (value as u16) << shift);
        self.bytes[at] = self.bytes[at] & !(mask as u8) | value as u8;
        if let Some(high) = self.bytes.get_mut(at + 1) {
            *high = *high & !((mask >> 8) as u8) | (value >> 8) as u8;
        }
    }

    /// Makes it dense. False: it was.
    pub fn make_dense(&mut self) -> Result<bool, Corrupt> {
        if !self.is_sparse() {
            return Ok(false);
        }
        let mut registers = [0; REGISTERS];
        self.merge_into(&mut registers)?;
        self.bytes.truncate(HEAD);
        self.bytes[4] = DENSE;
        self.bytes.resize(DENSE_LEN, 0);
        for (index, value) in registers.into_iter().enumerate() {
            if value > 0 {
                self.set_dense(index, value);
            }
        }
        Ok(true)
    }

    /// Raises `registers` to what this one has.
    pub fn merge_into(&self, registers: &mut Registers) -> Result<(), Corrupt> {
        if !self.is_sparse() {
            for (index, register) in registers.iter_mut().enumerate() {
                *register = (*register).max(self.dense(index));
            }
            return Ok(());
        }
        let mut index = 0;
        for opcode in self.opcodes() {
            if let Opcode::Value(value, run) = opcode {
                let covered = registers.get_mut(index..index + run).ok_or(Corrupt)?;
                covered.iter_mut().for_each(|r| *r = (*r).max(value));
            }
            index += opcode.run();
        }
        if index == REGISTERS {
            Ok(())
        } else {
            Err(Corrupt)
        }
    }

    fn opcodes(&self) -> impl Iterator<Item = Opcode> {
        let mut at = HEAD;
        std::iter::from_fn(move || {
            let opcode = (at < self.bytes.len()).then(|| Opcode::at(&self.bytes, at))?;
            at += opcode.len();
            Some(opcode)
        })
    }

    fn raise_sparse(
        &mut self,
        index: usize,
        value: u8,
        sparse_max: usize,
    ) -> Result<bool, Corrupt> {
        if value > VALUE_MAX {
            return self.raise_made_dense(index, value);
        }
        let place = self.find(index)?;
        let opcode = Opcode::at(&self.bytes, place.at);
        if let Opcode::Value(old, _) = opcode
            && old >= value
        {
            return Ok(false);
        }
        let new = place.split(opcode, index, value);
        let grown = self.bytes.len() + new.len().saturating_sub(opcode.len());
        if new.len() > opcode.len() && grown > sparse_max {
            return self.raise_made_dense(index, value);
        }
        let old = place.at..(place.at + opcode.len()).min(self.bytes.len());
        self.bytes.splice(old, new);
        self.join(place.previous.unwrap_or(HEAD));
        self.forget_cached();
        Ok(true)
    }

    fn raise_made_dense(&mut self, index: usize, value: u8) -> Result<bool, Corrupt> {
        self.make_dense()?;
        Ok(self.raise_dense(index, value))
    }

    /// The opcode that covers a register.
    fn find(&self, index: usize) -> Result<Place, Corrupt> {
        let mut place = Place {
            at: HEAD,
            previous: None,
            first: 0,
        };
        while place.at < self.bytes.len() {
            let opcode = Opcode::at(&self.bytes, place.at);
            if index < place.first + opcode.run() {
                return Ok(place);
            }
            place = Place {
                at: place.at + opcode.len(),
                previous: Some(place.at),
                first: place.first + opcode.run(),
            };
        }
        Err(Corrupt)
    }

    /// Joins equal neighbours among the next few opcodes from `at` on.
    fn join(&mut self, mut at: usize) {
        for _ in 0..5 {
            if at >= self.bytes.len() {
                return;
            }
            let opcode = Opcode::at(&self.bytes, at);
            if let Opcode::Value(value, run) = opcode
                && at + 1 < self.bytes.len()
                && let Opcode::Value(next, more) = Opcode::at(&self.bytes, at + 1)
                && value == next
                && run + more <= VALUE_RUN_MAX
            {
                let mut joined = Vec::with_capacity(1);
                Opcode::Value(value, run + more).push(&mut joined);
                self.bytes.splice(at..at + 2, joined);
                continue;
            }
            at += opcode.len();
        }
    }

    /// The estimated cardinality.
    pub fn count(&self) -> Result<u64, Corrupt> {
        let mut histogram = [0_u32; 64];
        if self.is_sparse() {
            let mut covered = 0;
            for opcode in self.opcodes() {
                let value = match opcode {
                    Opcode::Value(value, _) => value as usize,
                    _ => 0,
                };
                histogram[value] += opcode.run() as u32;
                covered += opcode.run();
            }
            if covered != REGISTERS {
                return Err(Corrupt);
            }
        } else {
            (0..REGISTERS).for_each(|index| histogram[self.dense(index) as usize] += 1);
        }
        Ok(estimate(&histogram))
    }

    /// The opcodes as PFDEBUG DECODE shows them. `None`: it is dense.
    pub fn decoded(&self) -> Option<String> {
        let words = self.opcodes().map(|opcode| match opcode {
            Opcode::Zero(run) => format!("z:{run}"),
            Opcode::LongZero(run) => format!("Z:{run}"),
            Opcode::Value(value, run) => format!("v:{value},{run}"),
        });
        self.is_sparse()
            .then(|| words.collect::<Vec<_>>().join(" "))
    }
}

/// Where a register is in a sparse value.
struct Place {
    at: usize,
    /// The opcode before.
    previous: Option<usize>,
    /// The first register that the opcode covers.
    first: usize,
}

impl Place {
    /// What stands for `opcode` when one of its registers is `value`.
    fn split(&self, opcode: Opcode, index: usize, value: u8) -> Vec<u8> {
        let rest = |run: usize| match opcode {
            Opcode::Value(old, _) => Opcode::Value(old, run),
            _ => Opcode::zeros(run),
        };
        let (before, after) = (index - self.first, self.first + opcode.run() - 1 - index);
        let mut new = Vec::with_capacity(5);
        if before > 0 {
            rest(before).push(&mut new);
        }
        Opcode::Value(value, 1).push(&mut new);
        if after > 0 {
            rest(after).push(&mut new);
        }
        new
    }
}

/// The estimated cardinality of merged registers.
pub fn count_registers(registers: &Registers) -> u64 {
    let mut histogram = [0; 64];
    for register in registers {
        histogram[(register & 0x3f) as usize] += 1;
    }
    estimate(&histogram)
}

/// From how many registers have each value.
fn estimate(histogram: &[u32; 64]) -> u64 {
    let m = REGISTERS as f64;
    let of = |value: u32| f64::from(histogram[value as usize]);
    let mut z = m * tau((m - of(RUN_BITS + 1)) / m);
    for value in (1..=RUN_BITS).rev() {
        z += of(value);
        z *= 0.5;
    }
    z += m * sigma(of(0) / m);
    // 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    (ALPHA * m * m / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The register of an element, and the length of its run of zeros and the one
/// behind it.
fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    let rest = hash >> INDEX_BITS | 1 << RUN_BITS;
    (
        hash as usize & (REGISTERS - 1),
        rest.trailing_zeros() as u8 + 1,
    )
}

/// MurmurHash64A (<https://github.com/aappleby/smhasher>, public domain).
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_sparse_value() {
        let mut hll = HyperLogLog::default();
        assert_eq!(hll.bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        assert_eq!(hll.cached(), Some(0));
        for element in [b"a", b"b", b"c"] {
            assert_eq!(hll.add(element, 3000), Ok(true));
        }
        // As redis-server 7.0.15 has it after PFADD k a b c.
        let want = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x61\x70\x80\x42\x69\x84\x4b\x2f\x8c\x50\x42";
        let (want, got) = (want.escape_ascii().to_string(), hll.bytes().escape_ascii());
        if want != got.to_string() {
            eprintln!("{got}");
        }
        assert_eq!(hll.count(), Ok(3));
        assert_eq!(hll.add(b"a", 3000), Ok(false));
    }

    #[test]
    fn sparse_and_dense_agree_and_are_near_the_truth() {
        let (mut sparse, mut dense) = (HyperLogLog::default(), HyperLogLog::default());
        assert_eq!(dense.make_dense(), Ok(true));
        assert_eq!(dense.bytes().len(), DENSE_LEN);
        for n in 0..20_000_u32 {
            let element = n.to_string();
            let a = sparse.add(element.as_bytes(), 3000);
            assert_eq!(a, dense.add(element.as_bytes(), 3000));
            if n.is_multiple_of(997) {
                let (a, b) = (sparse.count().unwrap(), dense.count().unwrap());
                assert_eq!(a, b);
                let off = (a as f64 - f64::from(n + 1)).abs() / f64::from(n + 1);
                assert!(off < 0.03, "{n} {a}");
            }
        }
        assert!(!sparse.is_sparse());
        assert_eq!(sparse.bytes()[HEAD..], dense.bytes()[HEAD..]);
    }

    #[test]
    fn broken_opcodes_are_corrupt_and_nothing_else() {
        let head = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80";
        for tail in [
            &b""[..],
            b"\x7f",
            b"\x7f\xfe",
            b"\x7f\xff\x00",
            b"\xff\x7f\xff",
        ] {
            let mut hll = HyperLogLog::of([head, tail].concat());
            assert_eq!(hll.count(), Err(Corrupt), "{tail:?}");
            assert_eq!(hll.merge_into(&mut [0; REGISTERS]), Err(Corrupt));
            for index in [0, REGISTERS - 1] {
                let _ = hll.raise(index, 33, 3000);
                let _ = hll.raise(index, 5, 3000);
            }
        }
        assert!(!is_valid(b"HYLL\x02", 100) && !is_valid(b"HYLL\0", 100));
        assert!(is_valid(b"HYLL\x01", 16) && !is_valid(b"HYLL\x01", 15));
    }
}
