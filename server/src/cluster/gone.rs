//! What changes of other nodes took away here a moment ago.
//!
//! A client of the whole cluster has every node delete a function library or a user,
//! as it must with Redis. Here the first node that is asked does it for all, and the
//! others find nothing left: by these names they answer what they would have answered
//! alone. Each name counts once, and is forgotten when it is there again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longer than a change is waited for: only then is the next node asked.
const FRESH: Duration = Duration::from_secs(15);
/// Names kept; beyond that the oldest are forgotten.
const MOST: usize = 1024;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Gone {
    /// In the order of their times.
    names: VecDeque<(Instant, Vec<u8>)>,
}

impl Gone {
    /// A name went.
    pub fn add(&mut self, name: &[u8], now: Instant) {
        self.keep_if(|other| other != name);
        self.names.push_back((now, name.to_vec()));
        if self.names.len() > MOST {
            self.names.pop_front();
        }
    }

    /// Whether a name went a moment ago; says so once.
    pub fn take(&mut self, name: &[u8], now: Instant) -> bool {
        self.names
            .retain(|(at, _)| now.saturating_duration_since(*at) < FRESH);
        let found = self.names.iter().position(|(_, other)| other == name);
        found.and_then(|at| self.names.remove(at)).is_some()
    }

    /// Forgets the names of which this is not so.
    pub fn keep_if(&mut self, is_gone: impl Fn(&[u8]) -> bool) {
        self.names.retain(|(_, name)| is_gone(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_once_and_for_a_while() {
        let (mut gone, now) = (Gone::default(), Instant::now());
        gone.add(b"a", now);
        gone.add(b"a", now);
        assert!(!gone.take(b"b", now));
        assert!(gone.take(b"a", now));
        assert!(!gone.take(b"a", now));

        gone.add(b"a", now);
        gone.add(b"b", now);
        gone.keep_if(|name| name != b"a");
        assert!(!gone.take(b"a", now), "it is there again");
        assert!(!gone.take(b"b", now + FRESH), "long ago");
    }

    #[test]
    fn of_very_many_names_the_oldest_are_forgotten() {
        let (mut gone, now) = (Gone::default(), Instant::now());
        for n in 0..=MOST {
            gone.add(n.to_string().as_bytes(), now);
        }
        assert_eq!(gone.names.len(), MOST);
        assert!(!gone.take(b"0", now));
        assert!(gone.take(b"1", now));
    }
}
