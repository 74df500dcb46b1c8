//! What the allocator and the kernel say of this process's memory.

use tikv_jemalloc_ctl::{epoch, raw, stats};

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Asked for by the program.
    pub allocated: usize,
    /// In pages that hold some of it.
    pub active: usize,
    /// Mapped by the allocator.
    pub resident: usize,
    /// In physical memory, as the kernel counts it.
    pub rss: usize,
}

/// The state of now. Values that cannot be had are 0.
pub fn usage() -> Usage {
    // Advancing the epoch makes jemalloc renew what it shows.
    let _ = epoch::advance();
    Usage {
        allocated: stats::allocated::read().unwrap_or(0),
        active: stats::active::read().unwrap_or(0),
        resident: stats::resident::read().unwrap_or(0),
        rss: resident_set(),
    }
}

fn resident_set() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    // SAFETY: sysconf has no preconditions.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as usize
}

/// Gives unused pages of all arenas back to the kernel.
///
/// # Errors
/// The allocator is another one.
pub fn purge() -> Result<(), String> {
    // SAFETY: the control is an `unsigned`.
    let arenas: u32 = unsafe { raw::read(b"arenas.narenas\0") }.map_err(|e| e.to_string())?;
    for arena in 0..arenas {
        for kind in ["dirty_decay_ms", "muzzy_decay_ms"] {
            let name = format!("arena.{arena}.{kind}\0");
            // A decay time of 0 purges at once; then the old time again. An
            // arena that nobody uses has none.
            // SAFETY: the control is a `ssize_t`.
            unsafe {
                if let Ok(before) = raw::update::<isize>(name.as_bytes(), 0) {
                    let _ = raw::write::<isize>(name.as_bytes(), before);
                }
            }
        }
    }
    Ok(())
}

/// jemalloc's totals as lines of text.
pub fn report() -> String {
    let _ = epoch::advance();
    let shown =
        |n: Result<usize, tikv_jemalloc_ctl::Error>| n.map_or("?".into(), |n| n.to_string());
    let totals = [
        ("allocated", stats::allocated::read()),
        ("active", stats::active::read()),
        ("metadata", stats::metadata::read()),
        ("resident", stats::resident::read()),
        ("mapped", stats::mapped::read()),
        ("retained", stats::retained::read()),
    ];
    let mut text = String::from("___ jemalloc statistics (bytes) ___\n");
    for (name, bytes) in totals {
        text.push_str(&format!("{name}: {}\n", shown(bytes)));
    }
    text
}

/// `9.54M`, as Redis shows bytes to people.
pub fn human(bytes: u64) -> String {
    let units = [
        (1_u64 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_redis_does() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1024), "1.00K");
        assert_eq!(human(9_999_999), "9.54M");
    }

    #[test]
    fn the_kernel_knows_this_process() {
        assert!(usage().rss > 0);
    }
}
