//! What `ps` shows of a standalone server: `proc-title-template`.
//!
//! The kernel shows the bytes in which the process got its arguments, so the title
//! is written there, and goes on where the environment was, which moves away first.
//! A node of a cluster keeps its command line, which names its cluster and itself.

use std::ops::Range;
use std::sync::OnceLock;

use crate::config::Settings;

/// Where the title goes.
struct Area {
    all: Range<usize>,
    /// How the program was called.
    title: String,
}

static AREA: OnceLock<Option<Area>> = OnceLock::new();

/// Finds out where the title goes. To be called before any thread is started.
pub fn prepare() {
    let _ = AREA.set(find_area());
}

/// Fields of `/proc/self/stat`, from 1: where arguments and environment are.
const ARG_START: usize = 48;

fn find_area() -> Option<Area> {
    let title = std::env::args().next()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut addresses = rest
        .split(' ')
        .skip(ARG_START - 3)
        .map(|n| n.parse::<usize>());
    let mut next = || addresses.next()?.ok();
    let (arguments, arguments_end) = (next()?, next()?);
    let (environment, environment_end) = (next()?, next()?);
    if arguments == 0 || arguments_end <= arguments {
        return None;
    }
    let adjoins = environment == arguments_end && environment_end > environment;
    if adjoins {
        move_environment();
    }
    Some(Area {
        all: arguments..if adjoins {
            environment_end
        } else {
            arguments_end
        },
        title,
    })
}

/// Sets every variable to what it is, which copies it.
fn move_environment() {
    for (name, value) in std::env::vars_os() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Shows the title that the settings ask for; `config_file` as it was named.
pub fn show(settings: &Settings, port: u16, config_file: &str) {
    let Some(Some(area)) = AREA.get() else {
        return;
    };
    if settings.flag("set-proc-title") {
        let template = settings.text("proc-title-template");
        write(
            area,
            &filled(&template, &area.title, settings, port, config_file),
        );
    }
}

fn filled(
    template: &str,
    title: &str,
    settings: &Settings,
    port: u16,
    config_file: &str,
) -> String {
    let bind = settings.text("bind");
    let address = bind.split(' ').find(|word| !word.is_empty()).unwrap_or("*");
    let socket = settings.text("unixsocket");
    let listens = match port {
        0 if !socket.is_empty() => format!("unixsocket:{socket}"),
        _ => format!("{address}:{port}"),
    };
    let values = [
        ("{title}", title.to_owned()),
        ("{listen-addr}", listens),
        ("{server-mode}", String::new()),
        ("{port}", port.to_string()),
        ("{tls-port}", settings.text("tls-port")),
        ("{unixsocket}", socket),
        ("{config-file}", config_file.to_owned()),
    ];
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(name, &value);
    }
    text.trim_end().to_owned()
}

fn write(area: &Area, title: &str) {
    let room = area.all.len() - 1;
    let bytes = &title.as_bytes()[..title.len().min(room)];
    let bytes = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => &bytes[..end],
        None => bytes,
    };
    let start = area.all.start as *mut u8;
    // SAFETY: the kernel put arguments and environment there, writable and for the
    // life of the process; nothing refers to the environment any more, and whoever
    // reads the arguments again finds strings that end.
    unsafe {
        std::ptr::write_bytes(start, 0, area.all.len());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_filled_in_as_redis_does() {
        let mut settings = Settings::default();
        settings.put("bind", "127.0.0.1 ::1");
        let filled =
            |template: &str| filled(template, "./cairn-server", &settings, 7000, "/a.conf");
        assert_eq!(
            filled("{title} {listen-addr} {server-mode}"),
            "./cairn-server 127.0.0.1:7000"
        );
        assert_eq!(
            filled("x {port} {tls-port} {config-file}"),
            "x 7000 0 /a.conf"
        );
    }
}
