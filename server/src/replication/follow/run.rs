//! The thread that follows: link after link.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::following::{LinkState, Master};
use super::handshake::{Answer, introduce};
use super::stream;
use super::wire::Wire;
use super::{LinkError, load};
use crate::group::Group;
use crate::server::{Home, Server};

/// Between two links: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// For one address of a master.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Runs until the server stops. Blocks: give it a thread of its own.
pub(crate) fn run(server: &Arc<Server>) {
    let Home::Standalone(group) = &server.home else {
        return;
    };
    let following = &server.following;
    let mut pause = PAUSE;
    while let Some((master, epoch)) = following.next() {
        let ended = follow_once(server, group, &master, epoch);
        following.set_socket(None);
        let was_up = following.of_link(server, epoch, |state| {
            let was_up = state.link == LinkState::Connected;
            state.link = LinkState::Connect;
            was_up
        });
        match (was_up, ended) {
            // Somebody else is next.
            (None, _) | (_, Err(LinkError::GivenUp)) => {
                pause = PAUSE;
                continue;
            }
            (Some(up), Err(why)) => {
                let Master { host, port } = &master;
                tracing::warn!("the link to the master {host}:{port} has ended: {why}");
                pause = if up { PAUSE } else { pause };
            }
            (Some(_), Ok(())) => {}
        }
        following.pause(epoch, pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One link, from its beginning to its end.
fn follow_once(
    server: &Arc<Server>,
    group: &Arc<Group>,
    master: &Master,
    epoch: u64,
) -> Result<(), LinkError> {
    let following = &server.following;
    let set = |link| {
        let set = following.of_link(server, epoch, |state| state.link = link);
        set.ok_or(LinkError::GivenUp)
    };
    let Master { host, port } = master;
    tracing::info!("Connecting to MASTER {host}:{port}");
    set(LinkState::Connecting)?;
    let from = server.settings.lock().text("bind-source-addr");
    let socket = connect(master, &from)?;
    tracing::info!("MASTER <-> REPLICA sync started");
    set(LinkState::Handshake)?;
    let mut wire = Wire::new(socket, following, epoch)?;
    let at = following.change(server, |state| state.at.filter(|at| at.in_step));
    let at = match introduce(server, &mut wire, at)? {
        Answer::Full(at) => {
            let id = String::from_utf8_lossy(&at.id).into_owned();
            tracing::info!("Full resync from master: {id}:{}", at.offset);
            load::take(server, group, &mut wire, epoch, at)?
        }
        Answer::Continue(renamed) => {
            let Some(mut at) = at else {
                let text = "the master continues a stream that was not asked for";
                return Err(LinkError::Refused(text.into()));
            };
            tracing::info!("Successful partial resynchronization with master.");
            if let Some(id) = renamed.filter(|id| *id != at.id) {
                tracing::info!(
                    "Master replication ID changed to {}",
                    String::from_utf8_lossy(&id)
                );
                at.id = id;
                let renamed = following.of_link(server, epoch, |state| {
                    state.at = Some(at);
                    server.rename_stream(&id, at.offset);
                    let db = usize::from(at.db);
                    server.announcer.feed.begin_at(at.offset, db);
                });
                renamed.ok_or(LinkError::GivenUp)?;
            }
            at
        }
    };
    set(LinkState::Connected)?;
    stream::take(server, group, &mut wire, epoch, at)
}

/// `from`: an address of this machine that the link is to have, or nothing.
fn connect(master: &Master, from: &str) -> Result<TcpStream, LinkError> {
    let refused =
        |error: std::io::Error| LinkError::Refused(format!("Unable to connect to MASTER: {error}"));
    let addresses = (master.host.as_str(), master.port).to_socket_addrs();
    let mut last = std::io::Error::other("its name has no address");
    for address in addresses.map_err(refused)? {
        match connect_to(address, from) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(refused(last))
}

fn connect_to(address: SocketAddr, from: &str) -> std::io::Result<TcpStream> {
    if from.is_empty() {
        return TcpStream::connect_timeout(&address, CONNECT_MAX);
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    let own = from.parse().map_err(std::io::Error::other)?;
    socket.bind(&SocketAddr::new(own, 0).into())?;
    socket.connect_timeout(&address.into(), CONNECT_MAX)?;
    Ok(socket.into())
}
