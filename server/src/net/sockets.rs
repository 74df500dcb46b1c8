//! The sockets that clients come in by. CONFIG SET `port` and `bind` exchange
//! them while the server runs.
//!
//! All network threads accept on the same sockets (no SO_REUSEPORT: a second
//! server on the same port must fail, not share).

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::watch;

const BACKLOG: i32 = 511;

type Open = Arc<Vec<TcpListener>>;

/// See the module's documentation.
pub struct Sockets {
    current: watch::Sender<Open>,
}

impl Default for Sockets {
    fn default() -> Sockets {
        let (current, _) = watch::channel(Open::default());
        Sockets { current }
    }
}

impl Sockets {
    /// Listens on these addresses, and on no others any more. Port 0: the first
    /// socket chooses for all.
    ///
    /// # Errors
    /// An address cannot be listened on; everything is as it was then.
    pub fn replace(&self, ips: &[IpAddr], port: u16) -> io::Result<()> {
        let old = self.current.borrow().clone();
        let wanted = |socket: &TcpListener| {
            let address = socket.local_addr();
            port != 0 && address.is_ok_and(|a| a.port() == port && ips.contains(&a.ip()))
        };
        let (stay, go): (Vec<&TcpListener>, Vec<&TcpListener>) =
            old.iter().partition(|socket| wanted(socket));
        let gone = addresses(go.iter().copied())?;
        // Who goes may be in the way of who comes: `*` of one address.
        for socket in &go {
            SockRef::from(*socket).shutdown(Shutdown::Both)?;
        }
        let mut new = clones(stay)?;
        let there: Vec<IpAddr> = addresses(new.iter())?.iter().map(SocketAddr::ip).collect();
        let missing: Vec<IpAddr> = ips
            .iter()
            .filter(|ip| !there.contains(ip))
            .copied()
            .collect();
        match bind_all(&missing, port) {
            Ok(sockets) => new.extend(sockets),
            Err(error) => {
                // Bound anew: a port that the kernel had chosen went with the
                // shutdown, and listening again would choose another.
                for address in gone {
                    new.push(bind(address.ip(), address.port())?);
                }
                self.current.send_replace(Arc::new(new));
                return Err(error);
            }
        }
        self.current.send_replace(Arc::new(new));
        Ok(())
    }

    /// Nobody is let in any more: at once, though threads still hold the sockets.
    pub fn close(&self) {
        let old = self.current.send_replace(Open::default());
        for socket in old.iter() {
            // It would be closed a moment later.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }

    /// The sockets as they are now.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        addresses(self.current.borrow().iter())
    }

    /// Tells of each exchange.
    pub(super) fn subscribe(&self) -> watch::Receiver<Open> {
        self.current.subscribe()
    }
}

pub(super) fn bind_all(ips: &[IpAddr], mut port: u16) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    for ip in ips {
        let socket = bind(*ip, port)?;
        port = socket.local_addr()?.port();
        sockets.push(socket);
    }
    Ok(sockets)
}

pub(super) fn clones<'a>(
    sockets: impl IntoIterator<Item = &'a TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    sockets.into_iter().map(TcpListener::try_clone).collect()
}

pub(super) fn addresses<'a>(
    sockets: impl IntoIterator<Item = &'a TcpListener>,
) -> io::Result<Vec<SocketAddr>> {
    sockets.into_iter().map(TcpListener::local_addr).collect()
}

fn bind(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let bound = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    // Redis's own words: scripts that start servers look for them in the log.
    bound().map_err(|e: io::Error| {
        let line = format!("Failed listening on port {port} (TCP), at {address}: {e}");
        io::Error::new(e.kind(), line)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn sockets_are_exchanged_or_stay_as_they_were() {
        let sockets = Sockets::default();
        sockets.replace(&[LOCAL], 0).unwrap();
        let first = sockets.addresses().unwrap()[0];
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        assert!(sockets.replace(&[LOCAL], taken).is_err());
        assert_eq!(sockets.addresses().unwrap(), [first]);
        assert!(TcpStream::connect(first).is_ok(), "it listens again");
        // The same port on every address: the old socket is in its way.
        let any = IpAddr::from([0, 0, 0, 0]);
        sockets.replace(&[any], first.port()).unwrap();
        assert_eq!(sockets.addresses().unwrap()[0].ip(), any);
        assert!(TcpStream::connect(first).is_ok());
        sockets.replace(&[], 0).unwrap();
        assert!(TcpStream::connect(first).is_err());
        sockets.replace(&[LOCAL], 0).unwrap();
        let last = sockets.addresses().unwrap()[0];
        let held = clones(sockets.current.borrow().iter()).unwrap();
        sockets.close();
        assert!(TcpStream::connect(last).is_err());
        drop(held);
    }
}
