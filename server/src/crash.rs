//! What a process that crashes leaves behind: a report in its log, with the signal
//! and where each function of the stack is.
//!
//! Installed once, when logging has begun. The handler runs on whatever is left of
//! the process: it allocates nothing, takes no lock, and only writes to a descriptor
//! that was opened for it. Then the signal does what it would have done.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

const SIGNALS: [(c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
];
/// Functions of the stack that are shown.
const MAX_FRAMES: usize = 64;

/// Seconds that a report may take; the process ends then in any case.
const PATIENCE: u32 = 5;

/// `crash-log-enabled`.
static ENABLED: AtomicBool = AtomicBool::new(true);
/// Where the report goes.
static LOG: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);
/// A report is being written, or was.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// What each signal did before, in the order of [`SIGNALS`].
static mut BEFORE: [libc::sigaction; SIGNALS.len()] =
    [const { unsafe { std::mem::zeroed() } }; SIGNALS.len()];

/// `crash-log-enabled` is this now.
pub fn enable(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

/// From now on a crash is reported; `log` is the log file, empty for the standard error.
pub fn install(log: &str) {
    if !log.is_empty()
        && let Ok(file) = File::options().create(true).append(true).open(log)
    {
        // Open as long as the process is.
        LOG.store(file.into_raw_fd(), Ordering::Relaxed);
    }
    // The first walk loads what it needs, which a handler must not.
    let mut frames = [std::ptr::null_mut(); 4];
    // SAFETY: the array has room for as many as are asked for.
    unsafe { libc::backtrace(frames.as_mut_ptr(), frames.len() as c_int) };
    for (at, (signal, _)) in SIGNALS.iter().enumerate() {
        // SAFETY: called once, before there are other threads; the structures are
        // plain data, and the handler keeps to what a handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            let before = &raw mut BEFORE;
            libc::sigaction(*signal, &action, &raw mut (*before)[at]);
        }
    }
}

/// The handler.
extern "C" fn report(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    if ENABLED.load(Ordering::Relaxed) {
        // SAFETY: both may be called here; the kernel gave us the structure.
        unsafe {
            match BEGUN.swap(true, Ordering::AcqRel) {
                false => {
                    // Should the walk wait for a lock that the crash left behind.
                    libc::signal(libc::SIGALRM, libc::SIG_DFL);
                    libc::alarm(PATIENCE);
                    write_report(signal, &*info);
                }
                // Of another thread, which is written just now.
                true => drop(libc::sleep(PATIENCE)),
            }
        }
    }
    let at = SIGNALS.iter().position(|(known, _)| *known == signal);
    // SAFETY: sigaction and raise may be called here; `BEFORE` was written before the
    // handler was installed.
    unsafe {
        let was_sent = (*info).si_code <= 0;
        match at {
            // The instruction runs again, and fails as it would have without us:
            // Rust's own handler tells of an overflown stack.
            Some(at) if !was_sent => {
                let before = &raw const BEFORE;
                libc::sigaction(signal, &raw const (*before)[at], std::ptr::null_mut());
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                // Delivered when the handler returns.
                libc::raise(signal);
            }
        }
    }
}

unsafe fn write_report(signal: c_int, info: &libc::siginfo_t) {
    let name = SIGNALS.iter().find(|(known, _)| *known == signal);
    put(b"\n=== CAIRN BUG REPORT: cut here and paste it into an issue ===\ncairn-server ");
    put(env!("CARGO_PKG_VERSION").as_bytes());
    put(b" crashed by signal: ");
    put_number(signal as u64, 10);
    put(b" (");
    put(name.map_or("?", |(_, name)| *name).as_bytes());
    put(b"), si_code: ");
    if info.si_code < 0 {
        put(b"-");
    }
    put_number(u64::from(info.si_code.unsigned_abs()), 10);
    // SAFETY: which of the structure's fields are set, the code says.
    unsafe {
        if info.si_code <= 0 {
            put(b"\nSent by the process with pid ");
            put_number(info.si_pid() as u64, 10);
            put(b", uid ");
            put_number(u64::from(info.si_uid()), 10);
        } else {
            put(b"\nAccessing address: 0x");
            put_number(info.si_addr() as u64, 16);
        }
        let mut thread = [0u8; 16];
        libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr());
        put(b"\nThread: ");
        put(CStr::from_bytes_until_nul(&thread).map_or(&b"?"[..], CStr::to_bytes));
        put(b", pid ");
        put_number(libc::getpid() as u64, 10);
        put(b"\n\n------ STACK TRACE ------\n");
        let mut frames = [std::ptr::null_mut(); MAX_FRAMES];
        let found = libc::backtrace(frames.as_mut_ptr(), MAX_FRAMES as c_int);
        libc::backtrace_symbols_fd(frames.as_ptr(), found, LOG.load(Ordering::Relaxed));
    }
    put(b"\n=== END OF THE REPORT (addr2line -Cfe cairn-server ADDRESS names the functions) ===\n");
}

fn put(mut bytes: &[u8]) {
    let log = LOG.load(Ordering::Relaxed);
    while !bytes.is_empty() {
        // SAFETY: writes what the slice has.
        let written = unsafe { libc::write(log, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(n) if n > 0 => bytes = &bytes[n..],
            _ => return,
        }
    }
}

fn put_number(mut number: u64, base: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    put(&digits[at..]);
}
