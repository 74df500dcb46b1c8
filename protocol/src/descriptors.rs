//! How many files and sockets a process may have open.

use std::io;

/// Raises the limit as far as the system lets a process do so itself, as Redis does: most
/// shells and service managers start one with 1024, which a thousand clients use up, and
/// with them what storage needs. A limit that cannot be raised stays.
pub fn raise_limit() {
    if let Err(error) = try_to_raise() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn try_to_raise() -> io::Result<()> {
    let mut limit = limit()?;
    if limit.rlim_cur == limit.rlim_max {
        return Ok(());
    }
    limit.rlim_cur = limit.rlim_max;
    set(&limit)
}

/// Has the system allow so many, if it does. Replies with how many it allows then.
pub fn allow(wanted: u64) -> u64 {
    let Ok(now) = limit() else {
        // What cannot be known is not refused.
        return wanted;
    };
    if now.rlim_cur >= wanted {
        return now.rlim_cur;
    }
    let raised = libc::rlimit {
        rlim_cur: wanted,
        // Whoever may raise that does.
        rlim_max: now.rlim_max.max(wanted),
    };
    match set(&raised) {
        Ok(()) => wanted,
        Err(_) => now.rlim_cur,
    }
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call fills the struct that it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the call reads the struct that it is given.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_what_the_system_allows_is_raised_to_it() {
        let mut low = limit().unwrap();
        low.rlim_cur = low.rlim_max - 1;
        set(&low).unwrap();
        raise_limit();
        assert_eq!(limit().unwrap().rlim_cur, low.rlim_max);
        // More than any system has.
        assert_eq!(allow(u64::from(u32::MAX)), low.rlim_max);
        assert_eq!(allow(low.rlim_max - 1), low.rlim_max);
    }
}
