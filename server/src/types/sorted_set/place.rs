//! Places: the order of a sorted set as byte strings.
//!
//! ```text
//! place   score u64 BE, made sortable | member
//! ```
//!
//! Sortable: IEEE 754 bits with the sign flipped for positive numbers and all
//! bits flipped for negative ones, so that bytes compare as numbers do. -0 is
//! filed as 0, as Redis orders it. There is no NaN. Frozen by a golden test.

use super::Item;
use std::cmp::Ordering;

const SIGN: u64 = 1 << 63;
/// Bytes of the score in a place.
pub const SCORE_LEN: usize = 8;

/// A score as a number that sorts as the score does.
pub fn sortable(score: f64) -> u64 {
    // The sum makes 0 of -0.
    let bits = (score + 0.0).to_bits();
    match bits & SIGN {
        0 => bits | SIGN,
        _ => !bits,
    }
}

/// The score of a place; -0 has become 0.
pub fn score_of(sortable: u64) -> f64 {
    f64::from_bits(match sortable & SIGN {
        0 => !sortable,
        _ => sortable & !SIGN,
    })
}

/// The place of a member.
pub fn place(score: f64, member: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SCORE_LEN + member.len());
    out.extend_from_slice(&sortable(score).to_be_bytes());
    out.extend_from_slice(member);
    out
}

/// A place as score (-0 as 0) and member. `None`: too short to be one.
pub fn split(place: &[u8]) -> Option<(f64, &[u8])> {
    let (score, member) = place.split_first_chunk()?;
    Some((score_of(u64::from_be_bytes(*score)), member))
}

/// How a member's place compares with `bound`, a place or a part of one.
pub fn compare(score: f64, member: &[u8], bound: &[u8]) -> Ordering {
    let score = sortable(score).to_be_bytes();
    match bound.split_at_checked(SCORE_LEN) {
        Some((front, rest)) => score[..].cmp(front).then_with(|| member.cmp(rest)),
        None => score[..].cmp(bound),
    }
}

/// The shortest byte string above `left` and not above `right`.
///
/// `left` must be below `right`.
pub fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    right[..right.len().min(common + 1)].to_vec()
}

/// Places from `first` to before `end` (`None`: to the last).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: Vec<u8>,
    pub end: Option<Vec<u8>>,
}

impl Span {
    pub const ALL: Span = Span {
        first: Vec::new(),
        end: None,
    };

    /// Holds nothing.
    pub fn empty() -> Span {
        Span {
            first: Vec::new(),
            end: Some(Vec::new()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.first)
    }
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    pub score: f64,
    pub exclusive: bool,
}

/// All members with scores between two ends.
pub fn score_span(min: ScoreBound, max: ScoreBound) -> Span {
    // Infinity is below the largest number there is: no sum overflows.
    let first = sortable(min.score) + u64::from(min.exclusive);
    let end = sortable(max.score) + u64::from(!max.exclusive);
    Span {
        first: first.to_be_bytes().to_vec(),
        end: Some(end.to_be_bytes().to_vec()),
    }
}

/// One end of a range of members (`-`, `+`, `[member`, `(member`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    Lowest,
    Highest,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

impl LexBound<'_> {
    /// Whether a member is at or above this lower end.
    fn admits_from_below(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Inclusive(bound) => member >= *bound,
            LexBound::Exclusive(bound) => member > *bound,
        }
    }

    /// Whether a member is at or below this upper end.
    fn admits_from_above(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Inclusive(bound) => member <= *bound,
            LexBound::Exclusive(bound) => member < *bound,
        }
    }
}

/// The first run of members between two ends as they lie in `items`, the whole
/// set in its order, whatever their scores.
pub fn lex_run(items: &[Item], min: LexBound<'_>, max: LexBound<'_>) -> Span {
    let above = |item: &Item| min.admits_from_below(&item.member);
    let below = |item: &Item| max.admits_from_above(&item.member);
    let (Some(lowest), Some(highest)) = (items.first(), items.last()) else {
        return Span::empty();
    };
    let Some(first) = items.iter().position(above) else {
        return Span::empty();
    };
    if !below(lowest) || !above(highest) || !below(&items[first]) {
        return Span::empty();
    }
    let end = items[first..].iter().find(|item| !below(item));
    Span {
        first: place(items[first].score, &items[first].member),
        end: end.map(|item| place(item.score, &item.member)),
    }
}

/// All members between two ends, of those with this score.
pub fn lex_span(score: f64, min: LexBound<'_>, max: LexBound<'_>) -> Span {
    let behind = |member: &[u8]| {
        let mut bound = place(score, member);
        bound.push(0);
        bound
    };
    let first = match min {
        LexBound::Lowest => Vec::new(),
        LexBound::Highest => return Span::empty(),
        LexBound::Inclusive(member) => place(score, member),
        LexBound::Exclusive(member) => behind(member),
    };
    let end = match max {
        LexBound::Lowest => return Span::empty(),
        LexBound::Highest => None,
        LexBound::Inclusive(member) => Some(behind(member)),
        LexBound::Exclusive(member) => Some(place(score, member)),
    };
    Span { first, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_places() {
        assert_eq!(place(1.0, b"m"), b"\xbf\xf0\0\0\0\0\0\0m");
        assert_eq!(place(-1.0, b""), b"\x40\x0f\xff\xff\xff\xff\xff\xff");
        assert_eq!(place(-0.0, b"m"), place(0.0, b"m"));
        assert_eq!(place(0.0, b""), b"\x80\0\0\0\0\0\0\0");
    }

    #[test]
    fn places_sort_as_scores_and_then_members_do() {
        let scores = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            5e-324,
            1.0,
            1.0000000000000002,
            f64::MAX,
            f64::INFINITY,
        ];
        for pair in scores.windows(2) {
            assert!(place(pair[0], b"z") < place(pair[1], b"a"), "{pair:?}");
            assert_eq!(
                compare(pair[0], b"z", &place(pair[1], b"a")),
                Ordering::Less
            );
        }
        for score in scores {
            assert_eq!(split(&place(score, b"m")), Some((score, &b"m"[..])));
            assert!(place(score, b"a") < place(score, b"ab"));
            assert_eq!(compare(score, b"m", b""), Ordering::Greater);
        }
    }

    #[test]
    fn a_separator_is_short_and_between() {
        for (left, right) in [("ab", "b"), ("a", "ab"), ("abc", "abd"), ("", "x")] {
            let found = separator(left.as_bytes(), right.as_bytes());
            assert!(left.as_bytes() < &found[..] && &found[..] <= right.as_bytes());
        }
        assert_eq!(separator(b"abcde", b"abxyz"), b"abx");
    }

    #[test]
    fn spans_include_and_exclude_their_ends() {
        let bound = |score, exclusive| ScoreBound { score, exclusive };
        let holds = |span: &Span, score, member: &[u8]| {
            let place = place(score, member);
            span.first <= place && span.end.as_ref().is_none_or(|end| place < *end)
        };
        let open = score_span(bound(1.0, true), bound(2.0, true));
        let closed = score_span(bound(1.0, false), bound(f64::INFINITY, false));
        assert!(!holds(&open, 1.0, b"m") && !holds(&open, 2.0, b"") && holds(&open, 1.5, b""));
        assert!(holds(&closed, 1.0, b"") && holds(&closed, f64::INFINITY, b"\xff"));
        let lex = lex_span(0.0, LexBound::Exclusive(b"a"), LexBound::Inclusive(b"c"));
        assert!(!holds(&lex, 0.0, b"a") && holds(&lex, 0.0, b"a\0") && holds(&lex, 0.0, b"c"));
        assert!(!holds(&lex, 0.0, b"c\0"));
        assert!(lex_span(0.0, LexBound::Highest, LexBound::Highest).is_empty());
        assert!(score_span(bound(1.0, true), bound(1.0, true)).is_empty());
    }
}
