//! Ports for a playground's programs: chosen and held, so that nothing else gets them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;
use tokio::net::TcpSocket;

/// Where ports are looked for: below those that the system gives to outgoing
/// connections, which could take one before its server listens.
const PORTS: std::ops::Range<u16> = 30_000..32_700;
const TRIES: u32 = 1000;

/// The ports of one playground.
///
/// Each is held by a socket that is bound and never listens. With `SO_REUSEADDR` on
/// both sides a program may listen there all the same, while a playground that looks
/// for a free port, which it does without, goes past it: also before the program
/// listens, and while it is started again.
#[derive(Default)]
pub struct Ports {
    held: Vec<(u16, TcpSocket)>,
}

impl Ports {
    /// A port that nothing is bound to.
    ///
    /// # Errors
    /// None was found.
    pub fn free(&mut self) -> anyhow::Result<u16> {
        for _ in 0..TRIES {
            let port = rand::random_range(PORTS);
            if let Ok(socket) = hold_unbound(port) {
                self.held.push((port, socket));
                return Ok(port);
            }
        }
        bail!(
            "no free port was found between {} and {}",
            PORTS.start,
            PORTS.end
        );
    }

    /// Holds a port that was in use before: its last connections may still be there, which
    /// look as a playground does whose program does not listen yet, so that such a one is
    /// not seen.
    ///
    /// # Errors
    /// Somebody listens there, or it is held here already.
    pub fn hold(&mut self, port: u16) -> io::Result<()> {
        if self.held.iter().any(|(held, _)| *held == port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        drop(TcpListener::bind(address(port))?);
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address(port))?;
        self.held.push((port, socket));
        Ok(())
    }

    /// Holds `port` if it is free, else another, and says so in `port`.
    ///
    /// # Errors
    /// No other was found.
    pub fn keep(&mut self, port: &mut u16) -> anyhow::Result<()> {
        if self.hold(*port).is_err() {
            *port = self.free()?;
        }
        Ok(())
    }
}

/// A socket on a port that no other socket has, listening or not.
fn hold_unbound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(address(port))?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_nobody_elses_and_its_program_may_listen() {
        let mut ports = Ports::default();
        let port = ports.free().unwrap();
        assert!(hold_unbound(port).is_err(), "held");
        assert!(ports.hold(port).is_err(), "by the same playground");
        for start in ["first", "second"] {
            let program = TcpListener::bind(address(port));
            assert!(program.is_ok(), "{start} start: {program:?}");
            assert!(TcpListener::bind(address(port)).is_err());
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_replaced() {
        let mut other = Ports::default();
        let taken = other.free().unwrap();
        let _listener = TcpListener::bind(address(taken)).unwrap();
        let (mut ports, mut port) = (Ports::default(), taken);
        ports.keep(&mut port).unwrap();
        assert_ne!(port, taken);
    }
}
