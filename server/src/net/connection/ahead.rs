//! A look ahead at a pipeline: which records its commands will ask for.

use cairn_protocol::resp::Args;

use super::Connection;

/// Fewer requests than this gain nothing from being asked for together, unless one
/// has many keys.
const FEW: usize = 4;
/// Keys asked for at once; what is asked for must not push itself out again.
const MOST: usize = 512;

impl Connection {
    /// Announces the keys of the `n` requests to the record cache. A guess by the
    /// commands' shape: a wrong one costs some nanoseconds.
    pub(super) fn look_ahead(&self, n: usize) {
        let Some(group) = &self.home else { return };
        let long = |at| self.requests.get(at).len() > 2 * FEW;
        if n >= FEW || (0..n).any(long) {
            let names = (0..n).flat_map(|at| likely_keys(self.requests.get(at)));
            group.store.prefetch(self.session.db, names.take(MOST));
        }
    }
}

/// The first argument; of MSET every second.
fn likely_keys<'a>(args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
    let pairs = args
        .try_get(0)
        .is_some_and(|name| name.eq_ignore_ascii_case(b"mset"));
    let count = match pairs {
        true => args.len() / 2,
        false => 1,
    };
    (0..count).filter_map(move |pair| args.try_get(1 + 2 * pair))
}
